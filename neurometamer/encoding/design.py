"""What encoding trains on and tests: its options, the table of stimuli, folds over photographs."""

from __future__ import annotations

import dataclasses
import numbers
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from neurometamer.arguments import fits, shown, type_words
from neurometamer.encoding.solvers import ALPHAS, SOLVERS
from neurometamer.errors import InputError, name_ids, unknown_name
from neurometamer.provenance import generator
from neurometamer.rsa.rdms import MIN_CONDITIONS
from neurometamer.stats.families import correct_p
from neurometamer.summaries import short_repr

if TYPE_CHECKING:
    import pandas as pd

SCHEMES = {
    "by image": "each photograph held out in turn with the images made from it",
    "all": "trained on all photographs (Zhang et al. 2021); photographs themselves are not tested",
}
"""Scheme name to what is held out."""

TESTS = ("RE", "AI", "AN")
"""Image types that are tested where the table holds them."""

LEAVE_ONE_OUT_UP_TO = 20
"""With as few photographs each fold holds out one; with more there are 10 folds."""

ALPHA_RANGE = (1e-100, 1e100)
"""Penalties outside of it are lost in the arithmetic."""

STIMULI = ("id", "kind", "reference_id")
"""Columns of the table of stimuli."""


@short_repr
@dataclass(frozen=True, kw_only=True)
class EncodingOptions:
    """Options of `fit_encoding`.

    Parameters
    ----------
    solver : str
        One of `SOLVERS`: how voxels are predicted from features.
    scheme : {"by image", "all"}
        ``"by image"``: an image is predicted by a model that never saw the photograph it was made
        from. ``"all"``: one model trained on all photographs, as in Zhang et al.; it gives no row
        for RE, which would be in-sample.
    tests : sequence of str, optional
        Image types to test. All of RE, AI and AN that the table holds when not given.
    n_folds : int, optional
        Folds over photographs of ``"by image"``: one photograph a fold up to 20 photographs, else
        10 folds.
    alphas : sequence of float
        Penalties above 0, in units of the mean squared length of the centered training features;
        not used by solvers that choose no penalty.
    n_permutations : int
        Permutations of the photographs, for p; 0 for no p. Every model is fitted again in each.
    correction : str
        How p is corrected over a family: ``"fdr"``, ``"holm"`` or ``"bonferroni"``. The family of a
        row is all stages, regions and subjects with its image type; rows of the mean over subjects
        are a family of their own.
    allow_repeats : bool
        Whether a test image may equal a training image, as in a control analysis.
    seed : int
        Seed of folds and permutations.

    Raises
    ------
    InputError
        For an unknown name, or a value that makes no sense.

    Examples
    --------
    >>> options = EncodingOptions(alphas=[10, 1], n_permutations=99)
    >>> options.penalties.tolist()
    [1.0, 10.0]
    """

    solver: str = "ridge"
    scheme: str = "by image"
    tests: Sequence[str] | None = None
    n_folds: int | None = None
    alphas: Sequence[float] = ALPHAS
    n_permutations: int = 200
    correction: str = "fdr"
    allow_repeats: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        types: dict[str, type] = {
            "solver": str,
            "scheme": str,
            "correction": str,
            "allow_repeats": bool,
            "n_permutations": int,
            "seed": int,
        }
        if self.n_folds is not None:
            types["n_folds"] = int
        for name, kind in types.items():
            value = getattr(self, name)
            if not fits(value, kind):
                raise InputError(f"{name} must be {type_words(kind)}, not {shown(value)}.")
        for name in ("n_permutations", "seed"):
            value = getattr(self, name)
            if value < 0:
                raise InputError(f"{name} must be 0 or more, not {value}.")
        if self.solver not in SOLVERS:
            raise unknown_name("encoding solver", self.solver, SOLVERS)
        if self.scheme not in SCHEMES:
            raise unknown_name("encoding scheme", self.scheme, SCHEMES)
        if self.tests is not None and not fits(self.tests, Sequence[str]):
            raise InputError(
                f"tests: a list of image types is needed, such as ['RE'], not {shown(self.tests)}."
            )
        correct_p(np.array([np.nan]), self.correction)
        check_alphas(self.alphas)

    @property
    def penalties(self) -> np.ndarray:
        """The penalties in rising order.

        Returns
        -------
        ndarray, shape (n_alphas,)
            float64.
        """
        alphas = np.array(self.alphas, dtype=np.float64)
        return np.sort(alphas)


def choose_options(options: EncodingOptions | None, settings: Mapping[str, Any]) -> EncodingOptions:
    """Put single settings on top of options.

    Parameters
    ----------
    options : EncodingOptions or None
        The defaults when None.
    settings : mapping
        Fields of `EncodingOptions`.

    Returns
    -------
    EncodingOptions
        All of them, checked.

    Raises
    ------
    InputError
        For an unknown setting, or a value that makes no sense.
    """
    if options is None:
        options = EncodingOptions()
    fields = dataclasses.fields(options)
    known = [field.name for field in fields]
    for name in settings:
        if name not in known:
            raise unknown_name("setting of encoding", name, known)
    return dataclasses.replace(options, **settings)


def check_alphas(alphas: Sequence[float]) -> None:
    """Refuse a grid of penalties that makes no sense.

    Parameters
    ----------
    alphas : sequence of float
        Penalties.

    Raises
    ------
    InputError
        When these are no numbers, none at all, not above 0, out of `ALPHA_RANGE`, or repeated.
    """
    is_list = not isinstance(alphas, (str, bytes))
    given: list[Any] = []
    try:
        given = list(alphas)
    except TypeError:
        is_list = False
    are_numbers = True
    for alpha in given:
        is_truth = isinstance(alpha, (bool, np.bool_))
        if is_truth or not isinstance(alpha, numbers.Real):
            are_numbers = False
    if not is_list or not are_numbers:
        raise InputError(f"alphas: a list of penalties above 0 is needed, not {shown(alphas)}.")
    if not given:
        raise InputError(f"alphas: at least one penalty above 0 is needed, not {shown(alphas)}.")
    penalties = np.array(given, dtype=np.float64)
    listed = penalties.tolist()
    is_usable = np.isfinite(penalties) & (penalties > 0)
    if not is_usable.all():
        raise InputError(f"alphas: penalties must be finite and above 0, not {listed}.")
    low, high = ALPHA_RANGE
    if penalties.min() < low or penalties.max() > high:
        raise InputError(f"alphas: penalties must lie between {low:g} and {high:g}, not {listed}.")
    if len(set(listed)) < len(listed):
        raise InputError(f"alphas: {listed} names a penalty twice; keep it once.")


def check_table(table: pd.DataFrame) -> None:
    """Refuse a table of stimuli without the columns that are needed, or with gaps in them.

    Parameters
    ----------
    table : pandas.DataFrame
        The stimuli.

    Raises
    ------
    InputError
        When a column or an entry is missing, or a photograph refers to another one.
    """
    if missing := [name for name in STIMULI if name not in table.columns]:
        raise InputError(
            f"table: no column {name_ids(missing)}; a table of stimuli has id, kind (RE, AN, AI …) "
            "and reference_id (the id of the photograph that an image was made from; of RE its "
            "own)."
        )
    for name in STIMULI:
        empty = table["id"].astype(str)[table[name].isna()]
        if len(empty):
            raise InputError(f"table: no {name} for the stimuli {name_ids(empty)}; fill it in.")
    photographs = table[table["kind"].astype(str) == "RE"].astype(str)
    known = set(photographs["id"])
    crossed = []
    for name, reference in zip(photographs["id"], photographs["reference_id"]):
        if name != reference and reference in known:
            crossed.append(f"{name} = {reference}")
    if crossed:
        raise InputError(
            "table: photographs (RE) whose reference_id is another photograph: "
            f"{name_ids(crossed)}; the reference_id of a photograph is its own."
        )


@dataclass(frozen=True, kw_only=True)
class Design:
    """Rows of the stimulus table that are trained on and tested, by photograph.

    Parameters
    ----------
    ids : list of str
        Stimuli, in the order of the table.
    references : list of str
        Photographs, sorted.
    rows : dict of str to dict of str to int
        Image type to photograph to row of the table.
    folds : list of list of str
        Photographs held out together.
    tests : list of str
        Image types that are tested.
    options : EncodingOptions
        Solver, scheme, permutations.
    """

    ids: list[str]
    references: list[str]
    rows: dict[str, dict[str, int]]
    folds: list[list[str]]
    tests: list[str]
    options: EncodingOptions

    def training(self, held_out: Sequence[str]) -> list[str]:
        """List the photographs that a fold's model is trained on.

        Parameters
        ----------
        held_out : sequence of str
            Photographs of the fold.

        Returns
        -------
        list of str
            The others; all under the scheme ``"all"``.
        """
        if self.options.scheme == "all":
            return self.references
        left = []
        for reference in self.references:
            if reference not in held_out:
                left.append(reference)
        return left

    def having(self, kind: str, references: Sequence[str]) -> list[str]:
        """List the photographs that have an image of a type.

        Parameters
        ----------
        kind : str
            Image type.
        references : sequence of str
            Photographs.

        Returns
        -------
        list of str
            In the same order.
        """
        rows = self.rows[kind]
        having = []
        for reference in references:
            if reference in rows:
                having.append(reference)
        return having

    def rows_of(self, kind: str, references: Sequence[str]) -> list[int]:
        """List the rows of the images of a type.

        Parameters
        ----------
        kind : str
            Image type.
        references : sequence of str
            Photographs; those without such an image are passed over.

        Returns
        -------
        list of int
            Rows of the table.
        """
        rows = self.rows[kind]
        having = self.having(kind, references)
        return [rows[reference] for reference in having]

    @property
    def n_train(self) -> int:
        """Photographs in the smallest training set.

        Returns
        -------
        int
            Above 0.
        """
        sizes = [len(self.training(held_out)) for held_out in self.folds]
        return min(sizes)


def make_design(table: pd.DataFrame, options: EncodingOptions) -> Design:
    """Choose what is trained and tested.

    Parameters
    ----------
    table : pandas.DataFrame
        The stimuli: columns id, kind, reference_id.
    options : EncodingOptions
        Scheme, image types, folds, seed.

    Returns
    -------
    Design
        Photographs, folds and image types.

    Raises
    ------
    InputError
        When these stimuli cannot be trained on and tested.
    """
    rows: dict[str, dict[str, int]] = {"RE": {}}
    labels = zip(table["kind"].astype(str), table["reference_id"].astype(str))
    for row, (kind, reference) in enumerate(labels):
        rows_of_kind = rows.setdefault(kind, {})
        if reference in rows_of_kind:
            raise InputError(
                f"encoding: two {kind} stimuli come from photograph '{reference}'; keep one of "
                "each kind."
            )
        rows_of_kind[reference] = row
    references = sorted(rows["RE"])
    if len(references) < MIN_CONDITIONS:
        raise InputError(
            f"encoding: {len(references)} photographs (RE); at least {MIN_CONDITIONS} are needed."
        )
    tests = _image_types(rows, options)
    orphans, few = [], []
    for test in tests:
        orphans += [reference for reference in rows[test] if reference not in rows["RE"]]
        if len(rows[test]) < MIN_CONDITIONS:
            few.append(f"{test} ({len(rows[test])})")
    if orphans:
        raise InputError(
            f"encoding: no photograph (RE) in the stimulus table for {name_ids(orphans)}; add it."
        )
    if few or not tests:
        raise InputError(
            f"encoding: too few stimuli to test: {name_ids(few) or 'none'}; {MIN_CONDITIONS} are "
            "needed."
        )
    folds = [references]
    if options.scheme != "all":
        n = len(references)
        usual = n if n <= LEAVE_ONE_OUT_UP_TO else 10
        n_folds = usual if options.n_folds is None else options.n_folds
        if not 2 <= n_folds <= n:
            raise InputError(
                f"n_folds must lie between 2 and the number of photographs ({n}), not {n_folds}."
            )
        order = generator(options.seed, "encoding folds", n).permutation(n)
        shuffled = np.array(references, dtype=object)[order]
        folds = [shuffled[fold::n_folds].tolist() for fold in range(n_folds)]
    return Design(
        ids=list(table["id"].astype(str)),
        references=references,
        rows=rows,
        folds=folds,
        tests=tests,
        options=options,
    )


def _image_types(rows: Mapping[str, Mapping[str, int]], options: EncodingOptions) -> list[str]:
    """Choose the image types to test; a type asked for by name must be there."""
    in_sample = options.scheme == "all"
    if options.tests is None:
        held = [test for test in TESTS if rows.get(test)]
        return [test for test in held if not (in_sample and test == "RE")]
    if not len(options.tests):
        raise InputError(
            f"tests: at least one image type is needed; the table has {name_ids(rows)}."
        )
    for test in options.tests:
        if not rows.get(test):
            raise unknown_name("image type in tests", test, rows)
    if in_sample and "RE" in options.tests:
        raise InputError(
            "tests: 'RE' is in-sample under scheme 'all', which trains on all photographs; leave "
            "it out, or use scheme 'by image'."
        )
    return list(dict.fromkeys(options.tests))

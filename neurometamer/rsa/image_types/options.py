"""The choices of `compare_image_types`, by name."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from neurometamer.arguments import check_fields
from neurometamer.errors import InputError, name_ids, unknown_name
from neurometamer.rsa.comparators.table import COMPARATORS, comparator_name
from neurometamer.rsa.sampling import CLASS_CLAIMS
from neurometamer.rsa.subsample import SUBSAMPLE_WARNING
from neurometamer.stats.families import COMBINATIONS
from neurometamer.stats.families import CORRECTIONS as INFERENCE_CORRECTIONS
from neurometamer.summaries import short_repr

Pair = tuple[str, str]
INTERVALS = {
    "projection": "jackknife over photographs, the noise of pairs corrected: would other "
    "photographs say the same? Covers 92 to 98 % in simulations; right for 3 subjects",
    "stimuli": "the usual percentile bootstrap over photographs, as in rsatoolbox: safe, but up to "
    "1.8 times too wide",
    "subsample": f"80 % of the units without replacement, the paper's. {SUBSAMPLE_WARNING}",
    "subjects": "bootstrap over subjects, t with subjects - 1 degrees of freedom: would other "
    "people?",
    "dual": "bootstrap over photographs and subjects, corrected as in rsatoolbox: would both? "
    "Too wide in simulations",
    "none": "no interval; the difference is tested as with 'projection'",
}
"""Name of an interval to what it is."""

NULLS = {
    "auto": "within sessions where they are known and differ between photographs, else free",
    "free": "all photographs change labels",
    "session": "within sessions",
    "class": "within classes",
}
"""Name of a null distribution to which labels change places."""

OVER_SUBJECTS = ("subjects", "dual")
"""Intervals that resample subjects: they are of the mean over subjects."""

MAX_T = "max-t"
"""Against the largest value of the family in each permutation, or resample: `with_families`."""

CORRECTIONS = (*INFERENCE_CORRECTIONS, MAX_T)
"""Corrections for many tests."""

FAMILIES = {
    "representations": "the layers, or the ROIs of one subject, for one pair of image types",
    "subjects": "ROIs x subjects for one pair of image types",
}
"""Name of a family of tests to what belongs to it."""


@short_repr
@dataclass(frozen=True, kw_only=True)
class ImageTypeOptions:
    """Options of `compare_image_types`: comparison, resamples and tests.

    Parameters
    ----------
    perception, decision : (str, str) or None
        Image types that look alike to people (RE and AI), and that the network calls the same (RE
        and AN). The difference is the similarity of the first minus that of the second; where one
        of them is left out (``none``) there is none.
    comparator : str
        One of `COMPARATORS`.
    interval : str
        One of `INTERVALS`.
    null : str
        One of `NULLS`.
    classes : str
        One of `CLASS_CLAIMS`: whether intervals are about other photographs of the same classes, or
        of other classes. Where no classes are known photographs are taken for independent draws.
    combine : str
        One of `COMBINATIONS`; how the subjects' p become one.
    correction : str
        One of `CORRECTIONS`. Where ``"max-t"`` is not defined Holm's is used, and the column says
        so.
    family : str
        One of `FAMILIES`.
    n_resamples, n_permutations : int
        Draws; 0 permutations for no p of similarities, 0 resamples (with ``interval="none"``) for
        none of differences.
    confidence : float
        Confidence level of the intervals, in (0, 1).
    seed : int
        Seed of all samples.
    join : {"exact", "inner"}
        Whether each photograph needs an image of every kind, or those that have are used.
    share : float
        Share of the units in a subsample, in (0, 1).

    Raises
    ------
    InputError
        For an unknown name or a number out of range.

    Examples
    --------
    >>> options = ImageTypeOptions(decision=None, n_permutations=99)
    >>> options.pairs, options.image_types
    ((('RE', 'AI'),), ('RE', 'AI'))
    """

    perception: Pair | None = ("RE", "AI")
    decision: Pair | None = ("RE", "AN")
    comparator: str = "spearman"
    interval: str = "projection"
    null: str = "auto"
    classes: str = "fixed"
    combine: str = "joint"
    correction: str = "fdr"
    family: str = "representations"
    n_resamples: int = 1000
    n_permutations: int = 1000
    confidence: float = 0.95
    seed: int = 0
    join: str = "exact"
    share: float = 0.8

    def __post_init__(self) -> None:
        check_fields(self)
        object.__setattr__(self, "comparator", comparator_name(self.comparator))
        for kind, name, known in (
            ("interval", self.interval, INTERVALS),
            ("null", self.null, NULLS),
            ("claim about classes", self.classes, CLASS_CLAIMS),
            ("combination of p-values", self.combine, COMBINATIONS),
            ("correction", self.correction, CORRECTIONS),
            ("family", self.family, FAMILIES),
            ("join", self.join, ("exact", "inner")),
        ):
            if name not in known:
                raise unknown_name(kind, name, known)
        if not self.pairs:
            raise InputError(
                "perception and decision are both None; give at least one pair of image types."
            )
        if self.n_resamples < 1 and self.interval != "none":
            raise InputError(
                f"n_resamples is {self.n_resamples}; give 1 or more, or interval='none'."
            )
        if self.interval == "projection" and not COMPARATORS[self.comparator].weighs_pairs:
            raise InputError(
                f"interval 'projection' is not defined for comparator='{self.comparator}'; "
                "give interval='stimuli'."
            )
        if self.n_permutations < 0:
            raise InputError(f"n_permutations is {self.n_permutations}; give 0 (no test) or more.")
        if not 0 < self.confidence < 1:
            raise InputError(f"confidence must lie between 0 and 1, not {self.confidence}.")

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """The pairs of image types that are compared.

        Returns
        -------
        tuple of (str, str)
            Decision first.
        """
        pairs = []
        for pair in (self.decision, self.perception):
            if pair is not None:
                pairs.append(pair)
        return tuple(pairs)

    @property
    def image_types(self) -> tuple[str, ...]:
        """The image types that are compared.

        Returns
        -------
        tuple of str
            Each once.
        """
        image_types: dict[str, None] = {}
        for pair in self.pairs:
            image_types.update(dict.fromkeys(pair))
        return tuple(image_types)


def need_pairs(known: Collection[str], chosen: ImageTypeOptions) -> None:
    """Refuse a default pair that lacks an image type where the other pair could be tested.

    Parameters
    ----------
    known : collection of str
        Image types of the stimuli.
    chosen : ImageTypeOptions
        Pairs that are compared.

    Raises
    ------
    InputError
        With the option that leaves the pair out.
    """
    is_testable = any(set(pair) <= set(known) for pair in chosen.pairs)
    for name in ("decision", "perception"):
        pair = getattr(chosen, name)
        default = getattr(ImageTypeOptions, name)
        if pair is None or pair != default:  # asked for: a name may be misspelt
            continue
        lacking = [image_type for image_type in pair if image_type not in known]
        if not lacking or not is_testable:
            continue
        raise InputError(
            f"no stimulus is of the image type {name_ids(lacking)}, which {'-'.join(pair)} "
            f"compares (there are {name_ids(known)}); leave that pair out with {name}=None, or "
            "give images of that type."
        )


def subjects_needed(confidence: float = 0.95) -> int:
    """Give the number of subjects that a bootstrap over subjects needs.

    Parameters
    ----------
    confidence : float
        Confidence level of the interval, in (0, 1).

    Returns
    -------
    int
        6 at 95 %: resampled subjects never leave the range of the subjects there are, and all n of
        them lie on one side of the median with probability 2^(1-n); with 3 subjects in one of 4
        studies.

    Examples
    --------
    >>> subjects_needed(0.95), subjects_needed(0.9)
    (6, 5)
    """
    n = 2
    while 1 - 2.0 ** (1 - n) < confidence and n < 63:
        n += 1
    return n

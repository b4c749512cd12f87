"""The commands ``neurometamer compare`` and ``cka``: two sources in, a table out."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import pandas as pd

from neurometamer.arguments import KeywordsOf, checked
from neurometamer.commands.options import Progress, ReadingOptions, check_before_loading
from neurometamer.errors import InputError, name_ids, unknown_name
from neurometamer.reading import Files
from neurometamer.run_options import RunOptions
from neurometamer.store import open_hdf5, read_table, write_table
from neurometamer.zoo import Weights, load_model, weights_by_name
from stimuli_gen.photographs import read_images

if TYPE_CHECKING:
    from stimuli_gen.models import StagedModel

JOINS = ("exact", "inner")
_Grams = dict[str, tuple[np.ndarray, int]]
"""Layer or ROI to the products of all images' responses (n, n) and its number of units."""


METHODS = {
    "biased": "linear CKA, biased (Kornblith et al. 2019)",
    "debiased": "linear CKA, debiased (Song et al. 2012; Murphy et al. 2024)",
}
"""How tables call the estimates."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Responses:
    """Responses to images in several places, read a place at a time."""

    source: str
    ids: list[str]
    places: list[str]
    read: Callable[[str], np.ndarray]
    weights: str = ""


@checked
def compare(
    a: str | Path,
    b: str | Path,
    out: str | Path | None = None,
    *,
    comparator: Sequence[str] = ("spearman",),
    controls: str | Path | None = None,
    blocks: str | Path | None = None,
    descriptor: str | None = None,
    progress: Progress | None = None,
    **options: Annotated[
        Any,
        KeywordsOf("neurometamer.rsa.compare:compare_rdms", ("image_type", "join")),
        KeywordsOf("neurometamer.rsa.compare:ComparisonOptions"),
    ],
) -> pd.DataFrame:
    """Compare all RDMs of one file with all of another, joined by stimulus id.

    Parameters
    ----------
    a, b : path-like
        HDF5 files of RDMs.
    out : path-like, optional
        CSV to write.
    comparator : sequence of str
        Comparators, upper or lower case.
    controls : path-like, optional
        HDF5 file of RDMs whose ranks are regressed out of both sides (`control_rdms`).
    blocks : path-like, optional
        Table with the columns id and block: labels change places within these only.
    descriptor : str, optional
        Pattern descriptor with the stimulus ids, in files of rsatoolbox that have no ``condition``
        (`read_rdms`).
    progress : callable, optional
        Called with (comparisons done, comparisons in all), for each comparator again.
    **options : object
        ``image_type`` and ``join`` of `neurometamer.compare_rdms`, and fields of
        `neurometamer.rsa.compare.ComparisonOptions`.

    Returns
    -------
    pandas.DataFrame
        One row a pair of RDMs and comparator (column ``by``). With ``join="inner"`` the column
        ``left_out`` lists the ids that one side held; in the CSV as a JSON array.

    Raises
    ------
    InputError
        When ids do not match or a name is unknown.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> import neurometamer as nm
    >>> values = np.random.default_rng(0).random((1, 15))
    >>> names = [f"image {number}" for number in range(6)]
    >>> places = {"stage": ["late"]}
    >>> rdms = nm.rsa.label_rdms(
    ...     values, conditions=names, rdm_descriptors=places, measure="euclidean"
    ... )
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = nm.write_rdms(rdms, Path(folder) / "network.h5")
    ...     table = nm.commands.compare(file, file, n_resamples=0)
    >>> table[["a_stage", "b_stage", "similarity"]].round(2).values.tolist()
    [['late', 'late', 1.0]]
    """
    from neurometamer.commands.rdms import read_same_blocks
    from neurometamer.rsa.comparators.table import comparator_name
    from neurometamer.rsa.compare import compare_rdms
    from neurometamer.rsa.compute import read_rdms

    first = read_rdms(a, descriptor=descriptor)
    second = read_rdms(b, descriptor=descriptor)
    if controls is not None:
        options["controls"] = read_rdms(controls)
    if blocks is not None:
        options["blocks"] = read_same_blocks(blocks)
    if not comparator:
        raise InputError("comparator is empty; give at least one name (--comparator).")
    tables = []
    for name in [comparator_name(given.lower()) for given in comparator]:
        compared = compare_rdms(first, second, comparator=name, progress=progress, **options)
        tables.append(compared.assign(comparator=name))
    table = pd.concat(tables, ignore_index=True)
    if out is not None:
        write_table(out, table)
    return table


@checked
def cka(
    a: str | Path,
    b: str | Path,
    out: str | Path | None = None,
    *,
    images: Files = (),
    image_type: str | None = None,
    join: str = "exact",
    debiased: bool = False,
    stages: Sequence[str] = (),
    weights: Weights = "default",
    seed: int = 0,
    reading: ReadingOptions | None = None,
    run: RunOptions | None = None,
) -> pd.DataFrame:
    """Compare all layers or ROIs of two sources of responses by linear CKA.

    A source is a network with its stages, or a subject with ROIs.

    Parameters
    ----------
    a, b : path-like or str
        Each a file of activations (`neurometamer.compute_activations`), a file of ``neurometamer
        fmri patterns`` (presentations are averaged), or the name of a network, which then sees
        `images`. The same for both compares a network's stages with each other.
    out : path-like, optional
        CSV to write.
    images : sequence of path-like
        What a network sees (`read_images`); with `image_type`, also says of which type each is.
    image_type : str, optional
        Only images of this type.
    join : {"exact", "inner"}
        Whether both must hold the same ids, or the shared ones are used.
    debiased : bool
        Whether to take the unbiased estimate, see `neurometamer.linear_cka`: the biased one grows
        with the number of units where there are few images.
    stages : sequence of str
        Stages of networks (names, early, middle, late, or fractions of depth) and ROIs of patterns
        that are compared; all when empty.
    weights : str or mapping
        Weights of networks by name, see `neurometamer.zoo.weights_by_name`.
    seed : int
        Seed of random weights.
    reading : ReadingOptions, optional
        How photographs are read.
    run : RunOptions, optional
        Device, number of images at a time and callback for progress.

    Returns
    -------
    pandas.DataFrame
        One row a pair: source_a, a, source_b, b (stage, or subject and ROI), value, n (images),
        n_units_a, n_units_b, method, weights_a, weights_b (networks only). There is no interval:
        resamples of images with copies make CKA larger than new images would.

    Raises
    ------
    InputError
        When a source is neither a file nor a network, ids do not match, a stage or image type is
        unknown, or fewer than 4 images are shared.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> import pandas as pd
    >>> import neurometamer as nm
    >>> from fmri import Patterns, write_patterns
    >>> rows = {"condition": [f"image {number}" for number in range(5)], "presentation": 1}
    >>> places = {"subject": "S1", "roi": ["V1", "V1", "LO"], "i": range(3), "j": 0, "k": 0}
    >>> patterns = Patterns(
    ...     values=np.random.default_rng(0).random((5, 3)),
    ...     observations=pd.DataFrame({**rows, "run": "1", "session": ""}),
    ...     voxels=pd.DataFrame(places),
    ... )
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = write_patterns(patterns, Path(folder) / "S1.h5")
    ...     table = nm.commands.cka(file, file)
    >>> table[["a", "b"]].values.tolist()[:2], table["value"].round(2).tolist()
    ([['S1 V1', 'S1 V1'], ['S1 V1', 'S1 LO']], [1.0, 0.25, 0.25, 1.0])
    """
    if join not in JOINS:
        raise unknown_name("join", join, JOINS)
    run = run or RunOptions()
    reading = reading or ReadingOptions()
    wanted = _ids_of_image_type(images, image_type)
    same = str(a) == str(b)
    networks = _weights_of_networks((a, b), weights)
    if networks:
        if not images:
            raise InputError(
                f"{next(iter(networks))} is a network: say what it sees with --images FOLDER or "
                "TABLE.csv."
            )
        check_before_loading(list(networks), networks, images, reading)
    sources: list[StagedModel | _Responses] = []
    for source in (a,) if same else (a, b):
        if Path(source).is_file():
            sources.append(_from_file(Path(source)))
            continue
        chosen_weights = networks[str(source)]
        sources.append(
            load_model(str(source), weights=chosen_weights, device=run.device, seed=seed)
        )
    places = _places_of(sources, stages)
    with ExitStack() as opened:
        sides = []
        for side, own in zip(sources, places, strict=True):
            if not isinstance(side, _Responses):
                side = _from_network(side, images, opened, own, reading, run)
            sides.append(side)
        first, second = sides[0], sides[-1]
        ids = _matched(first, second, wanted, join)
        left = _grams(first, places[0], ids, run.progress)
        right = left if same else _grams(second, places[-1], ids, run.progress)
    table = _paired(first, second, left, right, debiased)
    if out is not None:
        write_table(out, table)
    return table


def _paired(
    first: _Responses, second: _Responses, left: _Grams, right: _Grams, debiased: bool
) -> pd.DataFrame:
    """Compare all layers or ROIs of one source with all of the other, one row a pair."""
    from neurometamer.rsa.cka import gram_cka

    method = METHODS["debiased" if debiased else "biased"]
    rows = []
    for name_a, (gram_a, n_units_a) in left.items():
        for name_b, (gram_b, n_units_b) in right.items():
            rows.append(
                {
                    "source_a": first.source,
                    "a": name_a,
                    "source_b": second.source,
                    "b": name_b,
                    "value": gram_cka(gram_a, gram_b, debiased=debiased),
                    "n": len(gram_a),
                    "n_units_a": n_units_a,
                    "n_units_b": n_units_b,
                    "method": f"{method}; no interval",
                    "weights_a": first.weights,
                    "weights_b": second.weights,
                }
            )
    return pd.DataFrame(rows)


def _ids_of_image_type(images: Files, image_type: str | None) -> set[str] | None:
    """Read which images are of a type; None where all are compared."""
    if image_type is None:
        return None
    if not images:
        raise InputError(
            f"image_type='{image_type}' needs --images: stimulus folders or tables (id, kind) that "
            "name image types."
        )
    tables = []
    for source in map(Path, images):
        path = source / "stimuli.csv" if source.is_dir() else source
        tables.append(read_table(path, required=["id", "kind"]))
    table = pd.concat(tables)
    known = table["kind"].fillna("").astype(str)
    if image_type not in set(known):
        raise unknown_name("image type", image_type, dict.fromkeys(known))
    return set(table["id"][known == image_type].astype(str))


def _weights_of_networks(sources: Sequence[str | Path], weights: Weights) -> dict[str, str]:
    """Tell networks from files, and give the weights of each network."""
    names = []
    for source in sources:
        path = Path(source)
        if path.is_file():
            continue
        if path.suffix in (".h5", ".hdf5") or path.parent != Path():
            raise InputError(
                f"{path} does not exist; give a file of activations or patterns, or a network's "
                "name."
            )
        names.append(str(source))
    return weights_by_name(list(dict.fromkeys(names)), weights) if names else {}


def _from_file(path: Path) -> _Responses:
    from fmri.patterns import read_patterns
    from neurometamer.activations import read_activations

    with open_hdf5(path) as file:
        holds_patterns = "voxels" in file
        holds_activations = "stages" in file.attrs
    if holds_activations:
        activations = read_activations(path)
        return _Responses(
            source=path.name,
            ids=list(activations.ids),
            places=list(activations.stages),
            read=activations.read,
            weights=str(activations.provenance.get("weights", "")),
        )
    if not holds_patterns:
        raise InputError(
            f"{path} holds neither activations (neurometamer.compute_activations) nor patterns "
            "('fmri patterns'); give a file of one of them."
        )
    held = read_patterns(path)
    subject = held.subject or path.stem
    names = {f"{subject} {roi}": roi for roi in held.rois}

    def read(place: str) -> np.ndarray:
        _, means = held.select(roi=names[place]).means()
        return means

    return _Responses(source=path.name, ids=list(held.conditions), places=list(names), read=read)


def _places_of(
    sources: Sequence[StagedModel | _Responses], wanted: Sequence[str]
) -> list[list[str]]:
    """Choose layers or ROIs of each source, by name or depth.

    A name must be of one of the sources; a source of which none is named keeps all.
    """
    from stimuli_gen.depth import DEPTHS, at_stages

    chosen = []
    known: list[str] = []
    named: set[str] = set()
    for source in sources:
        own: list[str] = []
        for name in wanted:
            meant = _named(source, name)
            own += meant
            named |= {name} if meant else set()
        if isinstance(source, _Responses):
            places = [place for place in source.places if not own or place in own]
            known += source.places
        else:
            places = list(at_stages(source, own or list(source.stages))[1])
            known += [*DEPTHS, *source.stages]
        chosen.append(places)
    for name in wanted:
        if name not in named:
            raise unknown_name("stage or ROI", name, dict.fromkeys(known))
    return chosen


def _named(source: StagedModel | _Responses, name: str) -> list[str]:
    """List the layers or ROIs of a source that a name or a depth means."""
    from stimuli_gen.depth import find_stage

    if isinstance(source, _Responses):
        return [place for place in source.places if name in (place, place.rpartition(" ")[2])]
    try:
        return [find_stage(source, name).name]
    except InputError:
        return []


def _from_network(
    model: StagedModel,
    images: Files,
    opened: ExitStack,
    stages: Sequence[str],
    reading: ReadingOptions,
    run: RunOptions,
) -> _Responses:
    """Compute the responses of a network when they are first read."""
    from neurometamer.activations import Activations, compute_activations

    stimuli = read_images(images, model.preprocessing, bits=reading.bits, icc=reading.icc)

    @cache
    def responses() -> Activations:
        scratch = tempfile.TemporaryDirectory(prefix="neurometamer-cka-")
        path = Path(opened.enter_context(scratch)) / "activations.h5"
        return compute_activations(
            model,
            stimuli,
            stages=stages,
            path=path,
            run=replace(run, progress=None),
        )

    def read(place: str) -> np.ndarray:
        return responses().read(place)

    return _Responses(
        source=model.name,
        ids=list(stimuli.ids),
        places=list(stages),
        read=read,
        weights=model.weights,
    )


def _grams(
    side: _Responses, places: Sequence[str], ids: Sequence[str], progress: Progress | None
) -> _Grams:
    """Multiply the images' responses with each other, and count the units, a place at a time."""
    from neurometamer.rsa.cka import centered_gram

    row_of = {image_id: row for row, image_id in enumerate(side.ids)}
    rows = np.array([row_of[image_id] for image_id in ids], dtype=int)
    grams = {}
    for place in places:
        values = side.read(place)[rows]
        grams[place] = (centered_gram(values, ids=ids), values.shape[1])
        if progress is not None:
            progress(len(grams), len(places))
    return grams


def _matched(
    first: _Responses, second: _Responses, wanted: set[str] | None, join: str
) -> list[str]:
    """Choose the ids that are compared, in the first one's order."""
    from neurometamer.rsa.compute import match_ids

    ids_a = [name for name in first.ids if wanted is None or name in wanted]
    ids_b = [name for name in second.ids if wanted is None or name in wanted]
    if join == "exact":
        match_ids(ids_b, ids_a, second.source, first.source)
        return ids_a
    both = set(ids_b)
    ids = [name for name in ids_a if name in both]
    if not ids:
        first_ids = name_ids(ids_a, 3)
        second_ids = name_ids(ids_b, 3)
        raise InputError(
            f"{first.source} ({first_ids}) and {second.source} ({second_ids}) share no image; both "
            "need the same ids, give files that do."
        )
    return ids

"""The Python twin of ``neurometamer cka``: two sources of responses in, a table out."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from neurometamer.arguments import checked
from neurometamer.commands.stimuli import Progress
from neurometamer.errors import InputError, name_ids, unknown_name
from neurometamer.reading import Files
from neurometamer.run_options import RunOptions
from neurometamer.store import open_hdf5, read_table, write_table
from stimuli_gen.photographs import read_images

if TYPE_CHECKING:
    from neurometamer.zoo import Weights

JOINS = ("exact", "inner")


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
def cka_files(
    a: str | Path,
    b: str | Path,
    out: str | Path | None = None,
    *,
    images: Files = (),
    kind: str | None = None,
    join: str = "exact",
    debiased: bool = False,
    stages: Sequence[str] = (),
    weights: Weights = "default",
    device: str = "auto",
    batch_size: int = 8,
    seed: int = 0,
    progress: Progress | None = None,
    bits: int | None = None,
    icc: str = "ignore",
) -> pd.DataFrame:
    """Compare all layers or ROIs of two sources of responses by linear CKA.

    A source is a network with its stages, or a subject with ROIs.

    Parameters
    ----------
    a, b : path-like or str
        Each a file of `neurometamer.compute_activations`, a file of ``neurometamer fmri patterns``
        (presentations are averaged), or the name of a network, which then sees `images`. The same
        for both compares a network's stages with each other.
    out : path-like, optional
        CSV to write.
    images : sequence of path-like
        What a network sees (`read_images`); with `kind`, also tells which image is of which kind.
    kind : str, optional
        Only images of this kind.
    join : {"exact", "inner"}
        Whether both must hold the same ids, or the shared ones are used.
    debiased : bool
        See `neurometamer.linear_cka`: the biased one grows with the number of units where there are
        few images.
    stages : sequence of str
        Stages of networks and ROIs of patterns that are compared; all when empty.
    weights : str or mapping
        Weights of networks by name, see `neurometamer.zoo.weights_by_name`.
    device : str
        See `neurometamer.zoo.load_model`.
    batch_size : int
        Images at once.
    seed : int
        Seed of random weights.
    progress : callable, optional
        Called with (places read, places), for each source.
    bits : int, optional
        Bits of data of 16-bit photographs, see `stimuli_gen.load_photographs`.
    icc : {"ignore", "convert"}
        Color profiles of photographs, see there.

    Returns
    -------
    pandas.DataFrame
        One row a pair: source_a, a, source_b, b (stage, or subject and ROI), value, n (images),
        n_units_a, n_units_b, method, weights_a, weights_b (networks only). There is no interval:
        resamples of images with copies make CKA larger than new images would.

    Raises
    ------
    InputError
        When a source is neither a file nor a network, ids do not match, a stage or kind is unknown,
        or fewer than 4 images are shared.

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
    ...     table = nm.cka_files(file, file)
    >>> table[["a", "b"]].values.tolist()[:2], table["value"].round(2).tolist()
    ([['S1 V1', 'S1 V1'], ['S1 V1', 'S1 LO']], [1.0, 0.25, 0.25, 1.0])
    """
    from neurometamer.rsa.cka import gram_cka

    if join not in JOINS:
        raise unknown_name("join", join, JOINS)
    wanted = _ids_of_kind(images, kind)
    same = str(a) == str(b)
    with ExitStack() as opened:
        run = {
            "stages": stages,
            "device": device,
            "batch_size": batch_size,
            "seed": seed,
            "bits": bits,
            "icc": icc,
        }
        open_one = _opener((a, b), images, opened, weights, run)
        first = open_one(a)
        sides = [first, first if same else open_one(b)]
        chosen = _asked(sides, stages)
        ids = _shared(sides, wanted, join)
        left = _grams(sides[0], chosen[0], ids, progress)
        right = left if same else _grams(sides[1], chosen[1], ids, progress)
    method = METHODS["debiased" if debiased else "biased"]
    rows = [
        {
            "source_a": sides[0].source,
            "a": x,
            "source_b": sides[1].source,
            "b": y,
            "value": gram_cka(gram, other, debiased=debiased),
            "n": len(ids),
            "n_units_a": n_one,
            "n_units_b": n_other,
            "method": f"{method}; no interval",
            "weights_a": sides[0].weights,
            "weights_b": sides[1].weights,
        }
        for x, (gram, n_one) in left.items()
        for y, (other, n_other) in right.items()
    ]
    table = pd.DataFrame(rows)
    if out is not None:
        write_table(out, table)
    return table


def _ids_of_kind(images: Files, kind: str | None) -> set[str] | None:
    if kind is None:
        return None
    if not images:
        raise InputError(
            f"kind '{kind}' needs --images: stimulus folders or tables (id, kind) that tell kinds."
        )
    paths = [
        Path(source) / "stimuli.csv" if Path(source).is_dir() else Path(source) for source in images
    ]
    table = pd.concat([read_table(path, required=["id", "kind"]) for path in paths])
    known = table["kind"].fillna("").astype(str)
    if kind not in set(known):
        raise unknown_name("kind of stimulus", kind, dict.fromkeys(known))
    return set(table["id"][known == kind].astype(str))


def _opener(
    sources: Sequence[str | Path],
    images: Files,
    opened: ExitStack,
    weights: Weights,
    run: Mapping[str, Any],
) -> Callable[[str | Path], _Responses]:
    from neurometamer.zoo import weights_by_name

    for path in map(Path, sources):
        if not path.is_file() and (path.suffix in (".h5", ".hdf5") or path.parent != Path()):
            raise InputError(
                f"{path} does not exist; give a file of activations or patterns, or a network's "
                "name."
            )
    names = list(dict.fromkeys(str(source) for source in sources if not Path(source).is_file()))
    chosen = weights_by_name(names, weights) if names else {}
    if names and not images:
        raise InputError(
            f"{names[0]} is a network: say what it sees with --images FOLDER or TABLE.csv."
        )

    def open_one(source: str | Path) -> _Responses:
        if Path(source).is_file():
            return _from_file(Path(source))
        return _from_network(str(source), images, opened, weights=chosen[str(source)], **run)

    return open_one


def _from_file(path: Path) -> _Responses:
    from fmri.patterns import read_patterns
    from neurometamer.activations import read_activations

    with open_hdf5(path) as file:
        patterns, activations = "voxels" in file, "stages" in file.attrs
    if activations:
        activations_read = read_activations(path)
        weights = str(activations_read.provenance.get("weights", ""))
        return _Responses(
            source=path.name,
            ids=list(activations_read.ids),
            places=list(activations_read.stages),
            read=activations_read.read,
            weights=weights,
        )
    if not patterns:
        raise InputError(
            f"{path} holds neither activations (neurometamer.compute_activations) nor patterns "
            "('fmri patterns')."
        )
    held = read_patterns(path)
    subject = held.subject or path.stem
    names = {f"{subject} {roi}": roi for roi in held.rois}

    def read(place: str) -> np.ndarray:
        return held.select(roi=names[place]).means()[1]

    return _Responses(source=path.name, ids=list(held.conditions), places=list(names), read=read)


def _from_network(
    name: str,
    images: Files,
    opened: ExitStack,
    *,
    weights: str,
    stages: Sequence[str],
    device: str,
    batch_size: int,
    seed: int,
    bits: int | None = None,
    icc: str = "ignore",
) -> _Responses:
    from neurometamer.activations import Activations, compute_activations
    from neurometamer.zoo import load_model

    model = load_model(name, weights=weights, device=device, seed=seed)
    stimuli = read_images(images, model.preprocessing, bits=bits, icc=icc)
    wanted = [stage for stage in model.stages if stage in stages] or None

    @cache
    def responses() -> Activations:
        scratch = Path(
            opened.enter_context(tempfile.TemporaryDirectory(prefix="neurometamer-cka-"))
        )
        path = scratch / "activations.h5"
        return compute_activations(
            model,
            stimuli,
            stages=wanted,
            path=path,
            run=RunOptions(batch_size=batch_size),
        )

    def read(place: str) -> np.ndarray:
        return responses().read(place)

    ids, places = list(stimuli.ids), list(model.stages)
    return _Responses(source=name, ids=ids, places=places, read=read, weights=model.weights)


def _grams(
    side: _Responses, places: Sequence[str], ids: Sequence[str], progress: Progress | None
) -> dict[str, tuple[np.ndarray, int]]:
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


def _asked(sides: Sequence[_Responses], stages: Sequence[str]) -> list[list[str]]:
    """Choose layers or ROIs of both sides.

    A name must be of one of them; a side of which none is named keeps all.
    """
    known = [
        name
        for side in sides
        for place in side.places
        for name in (place, place.rpartition(" ")[2])
    ]
    for stage in stages:
        if stage not in known:
            raise unknown_name(
                "stage or ROI",
                stage,
                dict.fromkeys(place for side in sides for place in side.places),
            )
    chosen = []
    for side in sides:
        own = [
            place for place in side.places if place in stages or place.rpartition(" ")[2] in stages
        ]
        chosen.append(own or list(side.places))
    return chosen


def _shared(sides: Sequence[_Responses], wanted: set[str] | None, join: str) -> list[str]:
    """Give the ids that are compared, in the order of the first side."""
    from neurometamer.rsa.compute import match_ids

    parts = [
        [image_id for image_id in side.ids if wanted is None or image_id in wanted]
        for side in sides
    ]
    if join == "exact":
        match_ids(parts[1], parts[0], sides[1].source, sides[0].source)
        return parts[0]
    both = set(parts[1])
    ids = [image_id for image_id in parts[0] if image_id in both]
    if not ids:
        first, second = (f"{side.source} ({name_ids(part, 3)})" for side, part in zip(sides, parts))
        raise InputError(f"{first} and {second} share no image; both need the same ids.")
    return ids

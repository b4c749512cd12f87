"""The Python twin of ``neurometamer draw``.

It takes a file of RDMs and images, and makes heat maps and arrangements.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import pandas as pd

from neurometamer.arguments import KeywordsOf, checked
from neurometamer.commands.options import Progress
from neurometamer.commands.rdm import read_id_list, read_labelled, split_labels
from neurometamer.errors import InputError, duplicates, name_ids, unknown_name
from neurometamer.figures.style import count_text, format_number
from neurometamer.provenance import digest, digest_file, provenance
from neurometamer.reading import Files
from neurometamer.report import rsa as rsa_page
from neurometamer.report.page import Lead, Picture, Section, borrow_figure
from neurometamer.resume import writes_into
from neurometamer.store import write_json, write_table

if TYPE_CHECKING:
    from rsatoolbox.rdm import RDMs

BANDS = {
    "category": "the category of each stimulus",
    "kind": "the kind of each stimulus (RE, AN, AI …)",
}
"""Name of the bands along the edges of RDMs to what they are."""
MOST_MAPS, MOST_SCATTERS, MAPS_HIGH = 48, 12, 8
"""RDMs drawn at most as heat maps and as arrangements, and rows of heat maps on one figure."""
MOST_PAIRS = 2_000_000
"""Rows of pairs in the CSV of all heat maps: some 100 MB."""
MEAN = "mean"


@dataclass(frozen=True, kw_only=True, eq=False)
class _Placed:
    """One RDM with its names: whose (subject or model), and where (ROI or stage)."""

    who: str
    where: str
    matrix: np.ndarray

    @property
    def title(self) -> str:
        return " ".join(filter(None, (self.who, self.where)))

    @property
    def words(self) -> str:
        """The same in a sentence."""
        return f"{self.where} (mean over subjects)".strip() if self.who == MEAN else self.title


@writes_into("out")
@checked
def draw_rdms(
    rdms: str | Path,
    images: Files,
    out: str | Path,
    *,
    bands: str | None = None,
    place: Sequence[str] = (),
    embedding: str = "mds",
    perplexity: float | None = None,
    ids: str | Path | Sequence[str] | None = None,
    seed: int = 0,
    progress: Progress | None = None,
    **reading: Annotated[
        Any,
        KeywordsOf(
            "neurometamer.commands.rdm:read_labelled",
            ("variable", "measure", "descriptor"),
        ),
    ],
) -> Path:
    """Draw RDMs as heat maps with bands of kinds or categories.

    The stimuli are drawn where their dissimilarities place them.

    Parameters
    ----------
    rdms : path-like
        File of ``neurometamer rdm``, or of another program (``.mat``, ``.npz``, ``.npy``,
        ``.csv``), also as ``FILE=subject:roi`` (`neurometamer.commands.rdm.read_labelled`).
    images : sequence of path-like
        Stimulus folders, folders of image files, or tables with the column ``file``: the markers,
        and what categories and kinds the RDMs do not tell. One image an id; others are not used.
    out : path-like
        Folder for ``index.html``, ``draw.json``, ``scatter.csv`` (how well arrangements fit) and
        ``figures/``: ``rdms_1`` … and ``scatter_01_<name>`` …, each as SVG, PNG and CSV (pairs, or
        places of the stimuli).
    bands : {"category", "kind"}, optional
        Along the edges; by default categories, where every stimulus has one, else kinds.
    place : sequence of str
        Only RDMs of these ROIs, stages, subjects, models or names; several of the same sort are
        alternatives. ``"mean"`` is the mean over subjects.
    embedding : str
        A way to place stimuli, of `neurometamer.figures.rdms.ARRANGEMENTS`.
    perplexity : float, optional
        Perplexity of t-SNE.
    ids : path-like or sequence of str, optional
        Ids of the stimuli in the order of the RDMs, where their file names none; or a table with
        the column ``id`` or ``file``.
    seed : int
        Seed of the random starts.
    progress : callable, optional
        Called with (figures done, figures).
    **reading : object
        ``variable``, ``measure`` and ``descriptor`` of `neurometamer.read_rdms`.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    InputError
        When there is no image of a stimulus, a name is unknown, a category is missing, or a file
        cannot be used.

    Notes
    -----
    Where a file holds several subjects, the mean of their RDMs is drawn first. At most `MOST_MAPS`
    heat maps (fewer of very many stimuli: `MOST_PAIRS`) and `MOST_SCATTERS` arrangements are drawn;
    the page tells what is left out, and `place` chooses.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> import neurometamer as nm
    >>> values = np.random.default_rng(0).random((1, 15))
    >>> names = [f"image {number}" for number in range(6)]
    >>> places = {"stage": ["late"]}
    >>> rdms = nm.label_rdms(values, conditions=names, places=places, measure="euclidean")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = nm.write_rdms(rdms, Path(folder) / "network.h5")
    ...     try:
    ...         nm.draw_rdms(file, [], Path(folder) / "page")
    ...     except nm.InputError as error:
    ...         print(error)
    no images given; use --images FOLDER or --images TABLE.csv.
    """
    from neurometamer.figures.rdms import ARRANGEMENTS

    if embedding not in ARRANGEMENTS:
        raise unknown_name("arrangement", embedding, ARRANGEMENTS)
    if bands is not None and bands not in BANDS:
        raise unknown_name("bands", bands, BANDS)
    if perplexity is not None and embedding != "tsne":
        raise InputError(f"perplexity is of embedding 'tsne', not '{embedding}'; leave it out.")
    path = split_labels(rdms)[0]
    names = read_id_list(ids) if isinstance(ids, (str, Path)) else ids
    held = read_labelled(rdms, ids=names, **reading)
    stimuli = _stimuli(held, list_pictures(images))
    pictures = read_pictures(stimuli, stimuli["id"].tolist())
    column, members = _members(stimuli, bands)
    chosen = _choose(held, place)
    stamps = rsa_page.rdm_stamps(held, path)
    folder = Path(out)
    most = max(1, min(MOST_MAPS, MOST_PAIRS // held.dissimilarities.shape[1]))
    maps, scatters = chosen[:most], chosen[:MOST_SCATTERS]
    heat = _heat_maps(folder, maps, stimuli["id"].tolist(), members, stamps)
    placed = []
    for number, part in enumerate(scatters, 1):
        placed.append(
            _scatter(
                folder,
                number,
                part,
                stimuli,
                members,
                pictures,
                embedding,
                perplexity,
                seed,
                stamps,
            )
        )
        if progress is not None:
            progress(number, len(scatters))
    settings = {
        "bands": column,
        "place": list(place),
        "method": embedding,
        "perplexity": perplexity,
        "variable": reading.get("variable"),
        "measure": str(held.dissimilarity_measure),
        "seed": seed,
    }
    notes = {
        "rdms": _left_out(chosen, most, "Heat maps"),
        "arrangement": _left_out(chosen, MOST_SCATTERS, "Arrangements"),
    }
    inputs = {
        path.name: digest_file(path),
        "images": digest(*(pictures[image_id] for image_id in stimuli["id"])),
    }
    record = provenance(settings, inputs=inputs, notes=[*notes["rdms"], *notes["arrangement"]])
    write_json(folder / "draw.json", record)
    scores = pd.concat([table for _, table in placed], ignore_index=True)
    scores = scores[["rdm", "method", "measure", "score", "n_negative", "file"]]
    write_table(folder / "scatter.csv", scores)
    pages = (heat, [drawing for drawing, _ in placed])
    near = _nearest(scatters[0], members, column)
    return _write_page(
        folder,
        path,
        held,
        pages,
        notes,
        scores,
        record,
        stamps,
        near,
        means=any(part.who == MEAN for part in chosen),
    )


def _nearest(placed: _Placed, members: Sequence[str], column: str) -> list[str]:
    """Count the stimuli whose nearest other stimulus is of the same band.

    The text is empty where all or none are.
    """
    groups, n = pd.Series(members), len(members)
    sizes = groups.map(groups.value_counts())
    if groups.nunique() < 2 or (sizes < 2).all():
        return []
    distances = np.array(placed.matrix, dtype=float)
    np.fill_diagonal(distances, np.inf)
    known = np.isfinite(distances).any(axis=1)
    nearest = np.argmin(np.where(np.isnan(distances), np.inf, distances), axis=1)
    same = (groups.to_numpy() == groups.to_numpy()[nearest]) & known
    luck = float(((sizes - 1) / (n - 1)).sum())
    where = f"In {placed.words}, the" if placed.words else "The"
    return [
        f"{where} most similar other image is of the same {column} for {int(same.sum())} of {n} "
        f"images; by luck it would be for about {luck:.0f}."
    ]


def _stimuli(rdms: RDMs, pictures: pd.DataFrame) -> pd.DataFrame:
    """Say what each stimulus is: the RDMs first, then the table of images, then its photograph."""
    ids = [str(condition) for condition in rdms.pattern_descriptors["condition"]]
    by_id = pictures.set_index("id")
    if lost := [condition for condition in ids if condition not in by_id.index]:
        read_pictures(pictures, lost)  # says so
    rows = by_id.loc[ids].reset_index()
    for name in ("kind", "reference_id", "category"):
        if name in rdms.pattern_descriptors:
            own = pd.Series([str(value) for value in rdms.pattern_descriptors[name]])
            rows[name] = own.where(own != "", rows[name])
    photograph = rows["reference_id"].map(by_id["category"]).fillna("")
    rows["category"] = rows["category"].where(rows["category"] != "", photograph)
    return rows


def _members(stimuli: pd.DataFrame, bands: str | None) -> tuple[str, list[str]]:
    """Choose the column of the bands, and give each stimulus' value."""
    if bands is None:
        bands_known = [band for band in BANDS if (stimuli[band] != "").all()]
        if not bands_known:
            return "none", ["stimuli"] * len(stimuli)
        return bands_known[0], stimuli[bands_known[0]].tolist()
    if lacking := stimuli["id"][stimuli[bands] == ""].tolist():
        raise InputError(
            f"no {bands} of {name_ids(lacking)}: give --images a table with the columns file, id "
            f"and {bands}, or other --bands ({', '.join(band for band in BANDS if band != bands)})."
        )
    return bands, stimuli[bands].tolist()


_SORTS = (("subject", "model"), ("roi", "stage", "name"))
"""Descriptors that say whose an RDM is, and where it is; the first that is there counts."""


def _column(rdms: RDMs, names: Sequence[str]) -> list[str]:
    known = next((column for column in names if column in rdms.rdm_descriptors), None)
    return [str(value) for value in rdms.rdm_descriptors[known]] if known else [""] * rdms.n_rdm


def _choose(rdms: RDMs, place: Sequence[str]) -> list[_Placed]:
    """Name all RDMs, put the means over subjects first, and keep what was asked for."""
    who, where = (_column(rdms, names) for names in _SORTS)
    if not any(who + where):
        where = [f"RDM {i + 1}" for i in range(rdms.n_rdm)]
    squares = rdms.get_matrices()
    placed = [
        _Placed(who=a, where=b, matrix=square)
        for a, b, square in zip(who, where, squares, strict=True)
    ]
    if "subject" in rdms.rdm_descriptors and len(set(who)) > 1:
        placed = [*_means(placed), *placed]
    known = [
        list(dict.fromkeys(part.who for part in placed)),
        list(dict.fromkeys(part.where for part in placed)),
    ]
    for wish in place:
        if not any(wish in names for names in known):
            raise unknown_name("place", wish, [name for names in known for name in names if name])
    wanted = [[name for name in place if name in names] for names in known]
    kept = [
        part
        for part in placed
        if (not wanted[0] or part.who in wanted[0]) and (not wanted[1] or part.where in wanted[1])
    ]
    if not kept:
        raise InputError(f"no RDM is of {' and '.join(place)}; choose others with --place.")
    return _distinct(kept)


def _means(placed: Sequence[_Placed]) -> list[_Placed]:
    parts: dict[str, list[np.ndarray]] = {}
    for part in placed:
        parts.setdefault(part.where, []).append(part.matrix)
    return [
        _Placed(who=MEAN, where=where, matrix=np.mean(own, axis=0))
        for where, own in parts.items()
        if len(own) > 1
    ]


def _distinct(placed: Sequence[_Placed]) -> list[_Placed]:
    """Add numbers to equal names, so that no RDM covers another."""
    seen: dict[str, int] = {}
    titled = []
    for part in placed:
        seen[part.title] = seen.get(part.title, 0) + 1
        more = f" ({seen[part.title]})" if seen[part.title] > 1 else ""
        titled.append(_Placed(who=part.who, where=part.where + more, matrix=part.matrix))
    return titled


def _heat_maps(
    folder: Path,
    placed: Sequence[_Placed],
    ids: Sequence[str],
    members: Sequence[str],
    stamps: Sequence[str],
) -> list[Picture]:
    """Draw grids of RDMs, as several figures where there are many.

    The longer of subjects and places runs from left to right.
    """
    from neurometamer.figures.rsa import banded_rdms, rdm_pairs

    who = list(dict.fromkeys(part.who for part in placed))
    where = list(dict.fromkeys(part.where for part in placed))
    turned = len(who) > len(where)
    rows, columns = (where, who) if turned else (who, where)
    grid = np.full((len(rows), len(columns), len(ids), len(ids)), np.nan)
    for rdm in placed:
        row, column = (rdm.where, rdm.who) if turned else (rdm.who, rdm.where)
        grid[rows.index(row), columns.index(column)] = rdm.matrix
    step = max(1, MAPS_HIGH // -(-len(columns) // 6))
    pictures = []
    for number, start in enumerate(range(0, len(rows), step), 1):
        part: dict[str, Any] = {
            "row_titles": rows[start : start + step],
            "column_titles": columns,
            "ids": list(ids),
        }
        values = grid[start : start + step]
        figure = banded_rdms(values, **part, categories=members, stamp=rsa_page.stamp_text(stamps))
        pairs = rdm_pairs(values, **part)
        drawing = rsa_page.Drawing(
            name=f"rdms_{number}",
            figure=figure,
            numbers={
                f"rdms_{number}": pairs[np.isfinite(pairs["dissimilarity"])].reset_index(drop=True)
            },
            caption="Dissimilarities of all pairs of stimuli"
            + (f": {', '.join(filter(None, part['row_titles']))}." if len(rows) > step else "."),
            alt=f"{np.isfinite(values).any(axis=(2, 3)).sum()} heat maps.",
            raster=True,
        )
        pictures.append(rsa_page.save_drawing(folder, drawing))
    return pictures


def _scatter(
    folder: Path,
    number: int,
    part: _Placed,
    stimuli: pd.DataFrame,
    members: Sequence[str],
    pictures: dict[str, np.ndarray],
    method: str,
    perplexity: float | None,
    seed: int,
    stamps: Sequence[str],
) -> tuple[Picture, pd.DataFrame]:
    from neurometamer.figures.rsa import arrange_stimuli, stimulus_scatter

    ids = stimuli["id"].tolist()
    table = arrange_stimuli(part.matrix, ids, method=method, seed=seed, perplexity=perplexity)
    table = table.assign(category=list(members), kind=stimuli["kind"].tolist())
    slug = re.sub(r"[^A-Za-z0-9]+", "_", part.title).strip("_")
    name = f"scatter_{number:02d}" + (f"_{slug}" if slug else "")
    drawing = rsa_page.Drawing(
        name=name,
        figure=stimulus_scatter(table, pictures, stamp=rsa_page.stamp_text(stamps)),
        numbers={name: table},
        caption=f"{part.words or 'The RDM'}: stimuli that are near each other are represented "
        "alike.",
        alt=f"{len(ids)} images placed by their dissimilarities.",
        small=True,
    )
    measures = table[["method", "measure", "score", "n_negative"]].iloc[[0]]
    return rsa_page.save_drawing(folder, drawing), measures.assign(
        rdm=part.title, file=f"figures/{name}.csv"
    )


def _left_out(chosen: Sequence[_Placed], most: int, what: str) -> list[str]:
    if len(chosen) <= most:
        return []
    return [
        f"{what} of {most} of {len(chosen)} RDMs; not of "
        f"{name_ids([part.title for part in chosen[most:]])}. Choose with --place."
    ]


def _methods(rdms: RDMs, measure: str, scores: pd.DataFrame) -> str:
    """Write how the figures were made, for a manuscript."""
    how = "; ".join(dict.fromkeys(scores["method"].astype(str)))
    fit = "; ".join(dict.fromkeys(scores["measure"].astype(str)))
    low, high = float(scores["score"].min()), float(scores["score"].max())
    ends = format_number(low) if low == high else f"{format_number(low)} to {format_number(high)}"
    return (
        f"Representational dissimilarity matrices over {rdms.n_cond} stimuli (dissimilarity: "
        f"{measure}) are shown as "
        f"percentiles within each matrix. Stimuli were placed in a plane by {how} ({fit}: {ends})."
    )


def _write_page(
    folder: Path,
    path: Path,
    rdms: RDMs,
    pictures: tuple[list[Picture], list[Picture]],
    notes: dict[str, list[str]],
    scores: pd.DataFrame,
    record: dict[str, Any],
    stamps: Sequence[str],
    near: Sequence[str],
    means: bool,
) -> Path:
    column, method = (record["settings"][name] for name in ("bands", "method"))
    named = str(rdms.dissimilarity_measure or "")
    measure = named if named not in ("", "unknown") else "not named (--measure)"
    mean_words = "The mean RDM over subjects was computed for this page." if means else ""
    bands = {"none": "Neither the RDMs nor the images tell categories or kinds: there is one band."}
    words = bands.get(column, f"Bands: {BANDS.get(column, '')}.")
    sections = [
        Section(
            key="rdms",
            title="Dissimilarities",
            pictures=pictures[0],
            text=[*filter(None, [words, mean_words]), *notes["rdms"]],
        ),
        Section(
            key="arrangement",
            title="The stimuli, placed by their dissimilarities",
            pictures=pictures[1],
            text=notes["arrangement"],
        ),
    ]
    charts, sections = borrow_figure(sections, ["arrangement"])
    return rsa_page.write_rsa_page(
        folder,
        command="neurometamer draw",
        question="How are the stimuli represented?",
        lead=f"{path.name}: {count_text(rdms.n_rdm, 'RDM')} over {rdms.n_cond} stimuli; "
        f"dissimilarity: {measure}.",
        first=Lead(
            headlines=near or ["Images that lie near each other are represented alike."],
            text=["Counts and distances are described here; nothing is tested."],
            charts=charts,
        ),
        methods=[_methods(rdms, measure, scores)],
        sections=sections,
        tables=[("scatter.csv", "Arrangements and how well they fit", scores)],
        record=record,
        stamps=stamps,
        references=["rsa", method],
    )


SIDE = 192
"""Pixels of the longer side; more cannot be seen on a page."""


def list_pictures(sources: Files) -> pd.DataFrame:
    """List images without reading them.

    Parameters
    ----------
    sources : sequence of path-like
        Each a folder written by `stimuli_gen.write_stimuli`, a folder of image files (ids are their
        names without suffix), or a CSV or TSV with the column ``file`` (relative to it) and any of
        id, kind, reference_id, category.

    Returns
    -------
    pandas.DataFrame
        id, kind, reference_id, category (empty where nothing tells), file (of the image, or
        ``stimuli.h5``).

    Raises
    ------
    InputError
        When there are none, a table lacks its columns, or ids repeat.
    """
    if not sources:
        raise InputError("no images given; use --images FOLDER or --images TABLE.csv.")
    table = pd.concat([_list_one(Path(source)) for source in sources], ignore_index=True)
    if again := duplicates(table["id"]):
        raise InputError(
            f"images of the same id: {name_ids(again)}; give each once, or a table with the column "
            "id."
        )
    return table


def _list_one(source: Path) -> pd.DataFrame:
    from stimuli_gen.photograph_lists import list_photographs
    from stimuli_gen.stimuli import read_stimuli

    if source.is_dir() and (source / "stimuli.h5").is_file():
        table = read_stimuli(source, in_memory=False).table
        return _tidy(table.assign(file=str(source / "stimuli.h5")))
    table = list_photographs(source).table
    return _tidy(table.assign(file=list(map(str, table["file"]))))


def _tidy(table: pd.DataFrame) -> pd.DataFrame:
    rows = {"id": table["id"].astype(str).to_numpy()}
    for name in ("kind", "reference_id", "category"):
        known = table[name].astype(object).fillna("").astype(str) if name in table.columns else ""
        rows[name] = (
            np.asarray(known) if name in table.columns else np.full(len(table), "", dtype=object)
        )
    return pd.DataFrame({**rows, "file": table["file"].to_numpy()})


def read_pictures(
    table: pd.DataFrame, ids: Sequence[str], sources: str = "--images"
) -> dict[str, np.ndarray]:
    """Read images, whole and small.

    Parameters
    ----------
    table : pandas.DataFrame
        Table of `list_pictures`.
    ids : sequence of str
        Which.
    sources : str
        What holds them, for messages.

    Returns
    -------
    dict of str to ndarray
        Id → (3, height, width) in [0, 1], the longer side at most `SIDE` pixels.

    Raises
    ------
    InputError
        When there is no image of an id, or a file cannot be read.
    """
    held = table.set_index("id")["file"]
    if lost := [image_id for image_id in ids if image_id not in held.index]:
        raise InputError(
            f"no image of {name_ids(lost)}; {sources} holds {name_ids(held.index, 3)}. Give their "
            "folder too, or a table with the columns id and file."
        )
    pictures: dict[str, np.ndarray] = {}
    wanted = held.loc[list(ids)]
    for file, own in wanted.groupby(wanted, sort=False):
        names = [str(name) for name in own.index]
        pictures |= (
            _of_set(Path(str(file)), names)
            if str(file).endswith(".h5")
            else {names[0]: _of_file(Path(str(file)))}
        )
    return pictures


def _of_set(file: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    from PIL import Image

    from stimuli_gen.stimuli import read_stimuli

    stimuli = read_stimuli(file, in_memory=False)
    rows = {name: row for row, name in enumerate(stimuli.ids)}
    pictures = {}
    for name in names:
        pixels = np.asarray(stimuli.images[slice(rows[name], rows[name] + 1)])[0]
        levels = np.rint(255 * np.clip(np.moveaxis(pixels, 0, -1), 0, 1)).astype(np.uint8)
        pictures[name] = _small(Image.fromarray(levels))
    return pictures


def _of_file(file: Path) -> np.ndarray:
    from stimuli_gen.conversion import cannot_use, open_photograph

    if not file.is_file():
        raise InputError(f"{file} does not exist; the column file is relative to its table.")
    try:
        return _small(open_photograph(file)[0])
    except InputError as error:
        raise cannot_use(file, error, "convert it to an 8-bit PNG.") from error


def _small(picture: object) -> np.ndarray:
    from PIL import Image

    assert isinstance(picture, Image.Image)
    picture = picture.convert("RGB")
    picture.thumbnail((SIDE, SIDE))
    return np.moveaxis(np.asarray(picture, dtype=np.float32) / 255, -1, 0)

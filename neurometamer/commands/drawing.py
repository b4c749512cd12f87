"""The command ``neurometamer draw``.

It takes a file of RDMs and images, and makes heat maps and arrangements.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import pandas as pd

from neurometamer.arguments import KeywordsOf, checked
from neurometamer.commands.options import Progress
from neurometamer.commands.rdms import read_id_list, read_labelled, split_labels
from neurometamer.errors import InputError, count_text, duplicates, name_ids, unknown_name
from neurometamer.figures.style import format_number
from neurometamer.provenance import digest, digest_file, provenance
from neurometamer.reading import Files
from neurometamer.report import rsa as rsa_page
from neurometamer.report.page import (
    Drawing,
    FigureEntry,
    Lead,
    Section,
    borrow_figure,
    draw_sections,
)
from neurometamer.resume import writes_into
from neurometamer.store import write_json, write_table
from stimuli_gen.conversion import cannot_use, open_photograph
from stimuli_gen.photograph_lists import list_photographs
from stimuli_gen.stimuli import read_stimuli

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
        """Whose it is, and where."""
        return f"{self.who} {self.where}".strip()

    @property
    def words(self) -> str:
        """The title in a sentence."""
        if self.who != MEAN:
            return self.title
        return f"{self.where} (mean over subjects)".strip()


@dataclass(frozen=True, kw_only=True, eq=False)
class Arranged:
    """The stimuli as one RDM places them.

    Parameters
    ----------
    name : str
        Name of the figure.
    placed : _Placed
        The RDM.
    table : pandas.DataFrame
        Table of `neurometamer.figures.rdms.arrange_stimuli`, with category and kind.
    """

    name: str
    placed: _Placed
    table: pd.DataFrame


@dataclass(frozen=True, kw_only=True, eq=False)
class DrawPage:
    """What the page of ``neurometamer draw`` is made of.

    Parameters
    ----------
    stimuli : pandas.DataFrame
        Table of the stimuli, in the order of the RDMs.
    members : sequence of str
        Band of each.
    pictures : dict of str to ndarray
        Id to its image.
    stamp : str
        What every figure must say.
    maps : sequence of _Placed
        RDMs that are drawn as heat maps.
    arrangements : sequence of Arranged
        RDMs that place the stimuli.
    """

    stimuli: pd.DataFrame
    members: Sequence[str]
    pictures: dict[str, np.ndarray]
    stamp: str
    maps: Sequence[_Placed]
    arrangements: Sequence[Arranged]

    @property
    def ids(self) -> list[str]:
        """Ids of the stimuli.

        Returns
        -------
        list of str
            In the order of the RDMs.
        """
        return self.stimuli["id"].tolist()


@writes_into("out")
@checked
def draw(
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
            "neurometamer.commands.rdms:read_labelled",
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
        ``.csv``), also as ``FILE=subject:roi`` (`neurometamer.commands.rdms.read_labelled`).
    images : sequence of path-like
        Stimulus folders, folders of image files, or tables with the column ``file``: the markers,
        and what categories and kinds the RDMs do not name. One image an id; others are not used.
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
    the page says what is left out, and `place` chooses.

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
    ...     try:
    ...         nm.commands.draw(file, [], Path(folder) / "page")
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
    stimuli, column = _banded_stimuli(held, list_pictures(images), bands)
    members = stimuli[column].tolist() if column in BANDS else ["stimuli"] * len(stimuli)
    pictures = read_pictures(stimuli, stimuli["id"].tolist())
    chosen = _choose(held, place)
    stamps = rsa_page.rdm_stamps(held, path)
    folder = Path(out)
    most = max(1, min(MOST_MAPS, MOST_PAIRS // held.dissimilarities.shape[1]))
    how = {"method": embedding, "seed": seed, "perplexity": perplexity}
    page = DrawPage(
        stimuli=stimuli,
        members=members,
        pictures=pictures,
        stamp=rsa_page.stamp_text(stamps),
        maps=chosen[:most],
        arrangements=_arranged(chosen[:MOST_SCATTERS], stimuli, members, how, progress),
    )
    scores = _scores(page.arrangements)
    write_table(folder / "scatter.csv", scores)
    settings = {
        "bands": column,
        "representation": list(place),
        "method": embedding,
        "perplexity": perplexity,
        "variable": reading.get("variable"),
        "measure": str(held.dissimilarity_measure),
        "seed": seed,
    }
    left_out = {
        "rdms": _left_out(chosen, most, "Heat maps"),
        "arrangement": _left_out(chosen, MOST_SCATTERS, "Arrangements"),
    }
    images_digest = digest(*(pictures[name] for name in page.ids))
    record = provenance(
        settings,
        inputs={path.name: digest_file(path), "images": images_digest},
        notes=[*left_out["rdms"], *left_out["arrangement"]],
    )
    write_json(folder / "draw.json", record)
    mean_words = []
    if any(part.who == MEAN for part in chosen):
        mean_words.append("The mean RDM over subjects was computed for this page.")
    texts = {
        "rdms": [*mean_words, *left_out["rdms"]],
        "arrangement": left_out["arrangement"],
    }
    near = _nearest(chosen[0], members, column)
    return _write_page(folder, page, path, held, texts, near, scores, record, stamps)


def _nearest(placed: _Placed, members: Sequence[str], column: str) -> list[str]:
    """Count the stimuli whose nearest other stimulus is of the same band.

    The text is empty where all or none are.
    """
    groups = pd.Series(members)
    n = len(groups)
    sizes = groups.map(groups.value_counts())
    if groups.nunique() < 2 or (sizes < 2).all():
        return []
    distances = np.array(placed.matrix, dtype=float)
    np.fill_diagonal(distances, np.inf)
    is_known = np.isfinite(distances).any(axis=1)
    distances[np.isnan(distances)] = np.inf
    nearest = distances.argmin(axis=1)
    names = groups.to_numpy()
    is_same = (names == names[nearest]) & is_known
    by_chance = float(((sizes - 1) / (n - 1)).sum())
    where = f"In {placed.words}, the" if placed.words else "The"
    return [
        f"{where} most similar other image is of the same {column} for {int(is_same.sum())} of {n} "
        f"images; by chance it would be for about {by_chance:.0f}."
    ]


def _banded_stimuli(
    rdms: RDMs, pictures: pd.DataFrame, bands: str | None
) -> tuple[pd.DataFrame, str]:
    """Say what each stimulus is, and choose the column of the bands, or ``"none"``.

    The RDMs are asked first, then the table of images, then its photograph.
    """
    ids = [str(condition) for condition in rdms.pattern_descriptors["condition"]]
    by_id = pictures.set_index("id")
    lost = [condition for condition in ids if condition not in by_id.index]
    if lost:
        read_pictures(pictures, lost)  # raises, and names them
    rows = by_id.loc[ids].reset_index()
    for name in ("kind", "reference_id", "category"):
        if name in rdms.pattern_descriptors:
            own = pd.Series(list(map(str, rdms.pattern_descriptors[name])))
            rows[name] = own.where(own != "", rows[name])
    of_photograph = rows["reference_id"].map(by_id["category"]).fillna("")
    rows["category"] = rows["category"].where(rows["category"] != "", of_photograph)
    if bands is None:
        filled = [band for band in BANDS if (rows[band] != "").all()]
        return rows, filled[0] if filled else "none"
    is_lacking = rows[bands] == ""
    if is_lacking.any():
        lacking = name_ids(rows["id"][is_lacking])
        others = ", ".join(band for band in BANDS if band != bands)
        raise InputError(
            f"no {bands} of {lacking}: give --images a table with the columns file, id and "
            f"{bands}, or other --bands ({others})."
        )
    return rows, bands


_SORTS = (("subject", "model"), ("roi", "stage", "name"))
"""Descriptors that say whose an RDM is, and where it is; the first that is there counts."""


def _choose(rdms: RDMs, place: Sequence[str]) -> list[_Placed]:
    """Name all RDMs, put the means over subjects first, and keep what was asked for."""
    columns = []
    for names in _SORTS:
        known = [name for name in names if name in rdms.rdm_descriptors]
        values = rdms.rdm_descriptors[known[0]] if known else [""] * rdms.n_rdm
        columns.append([str(value) for value in values])
    who, where = columns
    if not any(who + where):
        where = [f"RDM {i + 1}" for i in range(rdms.n_rdm)]
    placed = []
    for owner, name, square in zip(who, where, rdms.get_matrices(), strict=True):
        placed.append(_Placed(who=owner, where=name, matrix=square))
    if "subject" in rdms.rdm_descriptors and len(set(who)) > 1:
        placed = [*_means(placed), *placed]
    known_who = dict.fromkeys(part.who for part in placed)
    known_where = dict.fromkeys(part.where for part in placed)
    for name in place:
        if name not in known_who and name not in known_where:
            raise unknown_name("representation", name, filter(None, [*known_who, *known_where]))
    wanted_who = [name for name in place if name in known_who] or known_who
    wanted_where = [name for name in place if name in known_where] or known_where
    kept = []
    seen: Counter[str] = Counter()
    for part in placed:
        if part.who in wanted_who and part.where in wanted_where:
            seen[part.title] += 1
            number = seen[part.title]
            # the file of one RDM must not replace that of another
            where_of = part.where if number == 1 else f"{part.where} ({number})"
            kept.append(replace(part, where=where_of))
    if not kept:
        raise InputError(f"no RDM is of {' and '.join(place)}; choose others with --place.")
    return kept


def _means(placed: Sequence[_Placed]) -> list[_Placed]:
    """Average the RDMs of several subjects, for each place."""
    means = []
    for where in dict.fromkeys(part.where for part in placed):
        own = [part.matrix for part in placed if part.where == where]
        if len(own) > 1:
            means.append(_Placed(who=MEAN, where=where, matrix=np.mean(own, axis=0)))
    return means


def draw_heat_maps(page: DrawPage) -> Iterator[Drawing]:
    """Draw grids of RDMs, as several figures where there are many.

    The longer of subjects and places runs from left to right.

    Parameters
    ----------
    page : DrawPage
        What the page is made of.

    Yields
    ------
    Drawing
        At most `MAPS_HIGH` rows of heat maps each.
    """
    from neurometamer.figures.rsa import banded_rdms, rdm_pairs

    who = list(dict.fromkeys(part.who for part in page.maps))
    where = list(dict.fromkeys(part.where for part in page.maps))
    is_turned = len(who) > len(where)
    rows, columns = (where, who) if is_turned else (who, where)
    n = len(page.ids)
    grid = np.full((len(rows), len(columns), n, n), np.nan)
    for rdm in page.maps:
        row, column = (rdm.where, rdm.who) if is_turned else (rdm.who, rdm.where)
        grid[rows.index(row), columns.index(column)] = rdm.matrix
    step = max(1, MAPS_HIGH // -(-len(columns) // 6))
    for number, start in enumerate(range(0, len(rows), step), 1):
        titles = rows[start : start + step]
        values = grid[start : start + step]
        part: dict[str, Any] = {
            "row_titles": titles,
            "column_titles": columns,
            "ids": page.ids,
        }
        pairs = rdm_pairs(values, **part)
        is_known = np.isfinite(pairs["dissimilarity"])
        n_maps = np.isfinite(values).any(axis=(2, 3)).sum()
        caption = "Dissimilarities of all pairs of stimuli"
        if len(rows) > step:
            caption = f"{caption}: {', '.join(filter(None, titles))}"
        yield Drawing(
            name=f"rdms_{number}",
            figure=banded_rdms(values, **part, categories=page.members, stamp=page.stamp),
            numbers={f"rdms_{number}": pairs[is_known].reset_index(drop=True)},
            caption=f"{caption}.",
            alt=f"{n_maps} heat maps.",
            raster=True,
        )


def draw_arrangements(page: DrawPage) -> Iterator[Drawing]:
    """Draw the stimuli where each RDM places them.

    Parameters
    ----------
    page : DrawPage
        What the page is made of.

    Yields
    ------
    Drawing
        One an RDM.
    """
    from neurometamer.figures.rsa import stimulus_scatter

    for arranged in page.arrangements:
        words = arranged.placed.words or "The RDM"
        yield Drawing(
            name=arranged.name,
            figure=stimulus_scatter(arranged.table, page.pictures, stamp=page.stamp),
            numbers={arranged.name: arranged.table},
            caption=f"{words}: stimuli that are near each other are represented alike.",
            alt=f"{len(arranged.table)} images placed by their dissimilarities.",
            small=True,
        )


FIGURES: dict[str, FigureEntry[DrawPage]] = {
    "rdms": FigureEntry(section="rdms", draw=draw_heat_maps),
    "arrangements": FigureEntry(section="arrangement", draw=draw_arrangements),
}
"""The figures of the page, in their order."""


def _arranged(
    placed: Sequence[_Placed],
    stimuli: pd.DataFrame,
    members: Sequence[str],
    how: dict[str, Any],
    progress: Progress | None,
) -> list[Arranged]:
    """Place the stimuli by each RDM."""
    from neurometamer.figures.rdms import arrange_stimuli

    arrangements = []
    for number, part in enumerate(placed, 1):
        table = arrange_stimuli(part.matrix, stimuli["id"].tolist(), **how)
        table = table.assign(category=list(members), kind=stimuli["kind"].tolist())
        slug = re.sub(r"[^A-Za-z0-9]+", "_", part.title).strip("_")
        name = f"scatter_{number:02d}_{slug}".rstrip("_")
        arrangements.append(Arranged(name=name, placed=part, table=table))
        if progress is not None:
            progress(number, len(placed))
    return arrangements


def _scores(arrangements: Sequence[Arranged]) -> pd.DataFrame:
    """Say how well arrangements fit their RDMs."""
    scores = []
    for arranged in arrangements:
        score = arranged.table[["method", "measure", "score", "n_negative"]].iloc[[0]]
        file = f"figures/{arranged.name}.csv"
        scores.append(score.assign(rdm=arranged.placed.title, file=file))
    columns = ["rdm", "method", "measure", "score", "n_negative", "file"]
    return pd.concat(scores, ignore_index=True)[columns]


def _left_out(chosen: Sequence[_Placed], most: int, what: str) -> list[str]:
    """Say which RDMs are not drawn; nothing where all are."""
    if len(chosen) <= most:
        return []
    names = name_ids([part.title for part in chosen[most:]])
    return [f"{what} of {most} of {len(chosen)} RDMs; not of {names}. Choose with --place."]


def _write_page(
    folder: Path,
    page: DrawPage,
    path: Path,
    rdms: RDMs,
    texts: dict[str, list[str]],
    near: Sequence[str],
    scores: pd.DataFrame,
    record: dict[str, Any],
    stamps: Sequence[str],
) -> Path:
    """Write the page, with methods for a manuscript."""
    measure = str(rdms.dissimilarity_measure or "")
    if measure in ("", "unknown"):
        measure = "not named (--measure)"
    how = "; ".join(dict.fromkeys(scores["method"].astype(str)))
    fit = "; ".join(dict.fromkeys(scores["measure"].astype(str)))
    ends = [format_number(float(scores["score"].min()))]
    if scores["score"].nunique() > 1:
        ends.append(format_number(float(scores["score"].max())))
    methods = (
        f"Representational dissimilarity matrices over {rdms.n_cond} stimuli (dissimilarity: "
        f"{measure}) are shown as percentiles within each matrix. Stimuli were placed in a plane "
        f"by {how} ({fit}: {' to '.join(ends)})."
    )
    titles = {
        "rdms": "Dissimilarities",
        "arrangement": "The stimuli, placed by their dissimilarities",
    }
    column = record["settings"]["bands"]
    bands_text = "Neither the RDMs nor the images name categories or kinds: there is one band."
    if column in BANDS:
        bands_text = f"Bands: {BANDS[column]}."
    texts = texts | {"rdms": [bands_text, *texts["rdms"]]}
    sections = []
    for key, title in titles.items():
        sections.append(Section(key=key, title=title, text=texts[key]))
    sections = draw_sections(folder, sections, FIGURES, page)
    charts, sections = borrow_figure(sections, ["arrangement"])
    lead = Lead(
        headlines=near or ["Images that lie near each other are represented alike."],
        text=["Counts and distances are described here; nothing is tested."],
        charts=charts,
    )
    n_rdms = count_text(rdms.n_rdm, "RDM")
    return rsa_page.write_rsa_page(
        folder,
        command="neurometamer draw",
        question="How are the stimuli represented?",
        lead=f"{path.name}: {n_rdms} over {rdms.n_cond} stimuli; dissimilarity: {measure}.",
        first=lead,
        methods=[methods],
        sections=sections,
        tables=[("scatter.csv", "Arrangements and how well they fit", scores)],
        record=record,
        stamps=stamps,
        references=["rsa", record["settings"]["method"]],
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
        id, kind, reference_id, category (empty where it is unknown), file (of the image, or
        ``stimuli.h5``).

    Raises
    ------
    InputError
        When there are none, a table lacks its columns, or ids repeat.
    """
    if not sources:
        raise InputError("no images given; use --images FOLDER or --images TABLE.csv.")
    tables = []
    for source in map(Path, sources):
        made = source / "stimuli.h5"
        if made.is_file():
            stimuli = read_stimuli(source, in_memory=False).table
            tables.append(_tidy(stimuli, [str(made)] * len(stimuli)))
        else:
            listed = list_photographs(source).table
            tables.append(_tidy(listed, list(map(str, listed["file"]))))
    table = pd.concat(tables, ignore_index=True)
    if again := duplicates(table["id"]):
        raise InputError(
            f"images of the same id: {name_ids(again)}; give each once, or a table with the column "
            "id."
        )
    return table


def _tidy(table: pd.DataFrame, files: Sequence[str]) -> pd.DataFrame:
    """Take the columns that say what images are; missing texts are empty."""
    rows = pd.DataFrame({"id": table["id"].astype(str).to_numpy()})
    for name in ("kind", "reference_id", "category"):
        rows[name] = ""
        if name in table.columns:
            texts = table[name].astype(object).fillna("").astype(str)
            rows[name] = texts.to_numpy()
    return rows.assign(file=list(files))


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
    from PIL import Image

    held = table.set_index("id")["file"]
    if lost := [image_id for image_id in ids if image_id not in held.index]:
        raise InputError(
            f"no image of {name_ids(lost)}; {sources} holds {name_ids(held.index, 3)}. Give their "
            "folder too, or a table with the columns id and file."
        )
    pictures: dict[str, np.ndarray] = {}
    wanted = held.loc[list(ids)]
    for file, own in wanted.groupby(wanted, sort=False):
        path = Path(str(file))
        names = list(map(str, own.index))
        if path.suffix == ".h5":
            stimuli = read_stimuli(path, in_memory=False)
            rows = {name: row for row, name in enumerate(stimuli.ids)}
            for name in names:
                row = rows[name]
                (pixels,) = np.asarray(stimuli.images[row : row + 1])
                channels_last = np.moveaxis(pixels, 0, -1)
                levels = np.rint(255 * np.clip(channels_last, 0, 1))
                pictures[name] = _small(Image.fromarray(levels.astype(np.uint8)))
            continue
        if not path.is_file():
            raise InputError(f"{path} does not exist; the column file is relative to its table.")
        try:
            picture, *_ = open_photograph(path)
            pictures[names[0]] = _small(picture)
        except InputError as error:
            raise cannot_use(path, error, "convert it to an 8-bit PNG.") from error
    return pictures


def _small(picture: object) -> np.ndarray:
    from PIL import Image

    assert isinstance(picture, Image.Image)
    picture = picture.convert("RGB")
    picture.thumbnail((SIDE, SIDE))
    return np.moveaxis(np.asarray(picture, dtype=np.float32) / 255, -1, 0)

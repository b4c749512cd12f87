"""One HTML file from a study folder: reads the tables, images and RDMs on disk, draws the figures, writes the page.

Nothing is computed here but counts, means and best values of what the tables hold, so the page can say no more than
they do. The page holds its figures, loads nothing, and needs no JavaScript.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from neurometamer import figures
from neurometamer.store import InputError, name_ids, read_json, read_table, write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rsatoolbox.rdm import RDMs

    from stimuli_gen.stimuli import StimulusSet

TABLES: dict[str, tuple[str, ...]] = {
    "similarity": ("system", "subject", "place", "pair", "similarity", "ci_low", "ci_high", "method", "n"),
    "layer_roi": ("subject", "roi", "layer", "similarity"),
    "encoding": ("subject", "roi", "layer", "test", "r"),
    "recovery": ("what", "planted", "found", "pass"),
}
"""The tables of a study and the columns without which the page cannot be made."""

LONG_TABLE = 24
"""Tables with more rows are cut on the page; the CSV has them all."""

REFERENCES = (
    (
        "Zhang C, Duan X-H, Wang L-Y, Li Y-L, Yan B, Hu G-E, Zhang R-Y, Tong L (2021). Dissociable neural "
        "representations of adversarially perturbed images in convolutional neural networks and the human brain. "
        "Frontiers in Neuroinformatics 15:677925.",
        "https://doi.org/10.3389/fninf.2021.677925",
        "the design: RE, AN and AI images, RE–AN against RE–AI similarity, encoding trained on RE",
    ),
    (
        "Kriegeskorte N, Mur M, Bandettini P (2008). Representational similarity analysis – connecting the branches "
        "of systems neuroscience. Frontiers in Systems Neuroscience 2:4.",
        "https://doi.org/10.3389/neuro.06.004.2008",
        "RDMs and their comparison by rank correlation",
    ),
    (
        "Nili H, Wingfield C, Walther A, Su L, Marslen-Wilson W, Kriegeskorte N (2014). A toolbox for "
        "representational similarity analysis. PLoS Computational Biology 10:e1003553.",
        "https://doi.org/10.1371/journal.pcbi.1003553",
        "lower and upper noise ceiling",
    ),
    (
        "Tarhan L, Konkle T (2020). Reliability-based voxel selection. NeuroImage 207:116350.",
        "https://doi.org/10.1016/j.neuroimage.2019.116350",
        "voxels chosen by split-half reliability of their response profile",
    ),
    (
        "Nguyen A, Yosinski J, Clune J (2015). Deep neural networks are easily fooled: high confidence predictions "
        "for unrecognizable images. CVPR, 427–436.",
        "https://doi.org/10.1109/CVPR.2015.7298640",
        "noise images that a network names with confidence",
    ),
)


# ------------------------------------------------------------------------------------------------ what the page holds


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One figure on the page: its image as a data URI, its caption and its text for those who cannot see it."""

    name: str
    source: str
    caption: str
    alt: str
    width_px: int


@dataclass(frozen=True, kw_only=True)
class Grid:
    """One table on the page, all cells as text; `n_rows` counts the rows of the file, shown or not."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    n_rows: int
    source: str = ""


@dataclass(frozen=True, kw_only=True)
class Section:
    """One part of the page; `missing` says in one line why a part is left out."""

    key: str
    title: str
    text: Sequence[str] = ()
    pictures: Sequence[Picture] = ()
    grids: Sequence[Grid] = ()
    missing: str = ""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One card of the first screen: what is asked, the number that answers it, and a sentence that bounds it."""

    title: str
    number: str
    text: str
    grid: Grid | None = None


@dataclass(frozen=True, kw_only=True)
class Study:
    """The parts of a study folder that exist; absent ones are empty."""

    folder: Path
    provenance: Mapping[str, Any]
    tables: Mapping[str, pd.DataFrame]
    rdms: Mapping[str, RDMs]
    stimuli: StimulusSet | None
    recipe: str = ""
    network_stamp: str = field(init=False)
    brain_stamp: str = field(init=False)

    def __post_init__(self) -> None:
        network, brain = _untrained(self), _simulated(self)
        object.__setattr__(self, "network_stamp", "untrained network (random weights)" if network else "")
        parts = ["simulated cortex"] * brain + [self.network_stamp] * bool(self.network_stamp)
        object.__setattr__(self, "brain_stamp", " · ".join(parts))

    def rows(self, name: str, **equal: str) -> pd.DataFrame:
        """Rows of a table whose columns equal the given values; empty when the table is not there."""
        table = self.tables.get(name, pd.DataFrame(columns=[*TABLES[name], *equal]))
        for column, value in equal.items():
            table = table[table[column] == value]
        return table

    def section(self, name: str) -> Mapping[str, Any]:
        """Part of the provenance, empty when it is not there."""
        value = self.provenance.get(name)
        return value if isinstance(value, Mapping) else {}


def _column(study: Study, name: str) -> set[str]:
    """All values that a column takes in any table."""
    columns = [table[name].dropna().astype(str) for table in study.tables.values() if name in table.columns]
    return {value for column in columns for value in column}


def _untrained(study: Study) -> bool:
    model = study.section("model")
    tags = {str(model.get("weights", ""))} | _column(study, "weights")
    return model.get("trained") is False or any(tag.lower().startswith("random") for tag in tags)


def _simulated(study: Study) -> bool:
    return study.section("brain").get("source") == "simulated" or "simulated" in _column(study, "data")


# -------------------------------------------------------------------------------------------------------------- read


def read_study(folder: str | os.PathLike[str]) -> Study:
    """Read what a study folder holds; parts that were not made are left empty.

    Parameters
    ----------
    folder : path-like
        With ``provenance.json`` or ``study.toml``, and any of ``tables/``, ``stimuli/`` and ``rdms/``.

    Returns
    -------
    Study
        The parts.

    Raises
    ------
    InputError
        When the folder is missing, is not a study, or holds a file that cannot be read.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; give the folder that `neurometamer run` or `demo` wrote.")
    if not (folder / "provenance.json").is_file() and not (folder / "study.toml").is_file():
        raise InputError(
            f"{folder} is not a study: it has neither provenance.json nor study.toml; give the folder that "
            "`neurometamer run` or `demo` wrote."
        )
    provenance = read_json(folder / "provenance.json") if (folder / "provenance.json").is_file() else {}
    if not isinstance(provenance, dict):
        raise InputError(f"{folder / 'provenance.json'} does not hold a JSON object; run the study again.")
    found = {name: folder / "tables" / f"{name}.csv" for name in TABLES}
    tables = {name: _with_text(read_table(path, TABLES[name])) for name, path in found.items() if path.is_file()}
    recipe = folder / "study.toml"
    return Study(
        folder=folder,
        provenance=provenance,
        tables=tables,
        rdms=dict(_read_rdms(folder)),
        stimuli=_read_stimuli(folder / "stimuli"),
        recipe=recipe.read_text(encoding="utf-8") if recipe.is_file() else "",
    )


def _with_text(table: pd.DataFrame) -> pd.DataFrame:
    """Names of places and layers as text, so that a layer called 7 stays a name."""
    names = [name for name in ("subject", "place", "roi", "layer", "what") if name in table.columns]
    return table.assign(**{name: table[name].astype("object").fillna("").astype(str) for name in names})


def _read_rdms(folder: Path) -> Iterator[tuple[str, RDMs]]:
    from rsatoolbox.rdm import load_rdm

    for system in ("network", "brain"):
        path = folder / "rdms" / f"{system}.h5"
        if not path.is_file():
            continue
        try:
            rdms = load_rdm(str(path), file_type="hdf5")
        except (OSError, KeyError, ValueError) as error:
            raise InputError(f"{path} is not an RDM file of rsatoolbox: {error}.") from error
        missing = [name for name in ("reference_id", "kind") if name not in rdms.pattern_descriptors]
        if missing:
            raise InputError(f"{path} lacks the pattern descriptor(s) {', '.join(missing)}; run the study again.")
        yield system, rdms


def _read_stimuli(folder: Path) -> StimulusSet | None:
    if not folder.is_dir():
        return None
    from stimuli_gen.stimuli import read_stimuli

    return read_stimuli(folder).as_shown()


# ----------------------------------------------------------------------------------------------------------- answers


def answers(study: Study) -> list[Answer]:
    """Put into sentences what the tables say: counts, means and best values, with their bounds.

    Parameters
    ----------
    study : Study
        As read.

    Returns
    -------
    list of Answer
        One a question that the study's tables can answer.
    """
    made = (_network_answer, _brain_answer, _layer_roi_answer, _encoding_answer, _stimuli_answer, _recovery_answer)
    return [answer for make in made if (answer := make(study)) is not None]


def _pairs(rows: pd.DataFrame) -> pd.DataFrame:
    """RE–AN and RE–AI of one subject and place side by side, joined by name; incomplete ones are left out."""
    keys = ["subject", "place"]
    sides = [rows[rows["pair"] == pair].drop_duplicates(keys) for pair in figures.PAIRS]
    both = sides[0].merge(sides[1], on=keys, suffixes=("_an", "_ai"), sort=False)
    both = both[np.isfinite(both["similarity_an"]) & np.isfinite(both["similarity_ai"])]
    return both.assign(
        apart=(both["ci_low_an"] > both["ci_high_ai"]) | (both["ci_low_ai"] > both["ci_high_an"]),
        an_wins=both["similarity_an"] > both["similarity_ai"],
        ai_wins=both["similarity_ai"] > both["similarity_an"],
    )


def _network_answer(study: Study) -> Answer | None:
    both = _pairs(study.rows("similarity", system="network"))
    if both.empty:
        return None
    wins = both[both["an_wins"]]
    where = f"({name_ids(wins['place'], 8)}) " if len(wins) else ""
    apart = both[both["apart"]]
    return Answer(
        title="Network: where are noise images more like the photographs than interference images are?",
        number=f"RE–AN > RE–AI at {len(wins)} of {len(both)} layers",
        text=f"{where}by the similarity of RDMs; RE–AI is larger at {int(both['ai_wins'].sum())}. The two intervals "
        f"do not overlap at {int(apart['an_wins'].sum())} and {int(apart['ai_wins'].sum())} of these.",
    )


def _brain_answer(study: Study) -> Answer | None:
    both = _pairs(study.rows("similarity", system="brain"))
    if both.empty:
        return None
    wins = both[both["ai_wins"]]
    others = both[~both["ai_wins"]]
    names = [f"{row.subject} {row.place}" for row in others.itertuples()]
    but = f" Not so in {name_ids(names)}." if names else ""
    cortex = "Simulated cortex" if _simulated(study) else "Cortex"
    return Answer(
        title=f"{cortex}: are interference images more like the photographs than noise images are?",
        number=f"RE–AI > RE–AN in {len(wins)} of {len(both)} subject × ROI pairs",
        text=f"Mean similarity of RDMs {_mean(both['similarity_ai'])} for RE–AI and {_mean(both['similarity_an'])} for "
        f"RE–AN; the two intervals do not overlap in {int(wins['apart'].sum())} of the {len(wins)}.{but}",
    )


def _mean(values: pd.Series) -> str:
    return figures.format_number(float(values.astype(float).mean()))


def _best_layers(study: Study) -> pd.DataFrame:
    """The row of the best layer of each ROI, mean over subjects, regular images."""
    rows = study.rows("layer_roi", subject="mean")
    rows = rows[rows["kind"] == "RE"] if "kind" in rows.columns else rows
    rows = rows[np.isfinite(rows["similarity"].astype(float))]
    best = rows.loc[rows.groupby("roi", sort=False)["similarity"].idxmax()] if len(rows) else rows
    return best.set_index("roi").loc[figures.order_places(best["roi"])].reset_index()


def _layer_roi_answer(study: Study) -> Answer | None:
    best = _best_layers(study)
    if best.empty:
        return None
    cells = []
    for row in best.to_dict("records"):
        ceiling = "–".join(figures.format_number(float(row.get(f"ceiling_{end}", np.nan))) for end in ("low", "high"))
        cells.append([row["roi"], row["layer"], figures.format_number(row["similarity"]), ceiling])
    simulated = " of the simulated cortex" if _simulated(study) else ""
    top = best.loc[best["similarity"].idxmax()]
    return Answer(
        title=f"Which layer is most like which area{simulated}?",
        number=f"{top['roi']} is matched best, by {top['layer']}",
        text="Regular images, mean over subjects. That a layer is best is a description; differences between layers are "
        "not tested.",
        grid=Grid(
            caption="Best layer of each ROI",
            columns=("ROI", "best layer", "similarity", "ceiling"),
            rows=cells,
            n_rows=len(cells),
        ),
    )


def _encoding_answer(study: Study) -> Answer | None:
    rows = study.rows("encoding")
    rows = rows[(rows["subject"] != "mean") & np.isfinite(rows["r"].astype(float))]
    if rows.empty:
        return None
    mean = {test: _mean(of_test["r"]) for test, of_test in rows.groupby("test")}
    wide = rows.pivot_table(index=["subject", "roi", "layer"], columns="test", values="r")
    text = "Mean r over subjects, ROIs and layers of ridge models trained on regular images."
    if {"AI", "AN"} <= set(wide.columns):
        both = wide.dropna(subset=["AI", "AN"])
        text += f" AI is predicted better than AN in {int((both['AI'] > both['AN']).sum())} of {len(both)} models."
    return Answer(
        title="Do voxel-encoding models carry over to the other images?",
        number=", ".join(f"{test} {mean[test]}" for test in ("RE", "AI", "AN") if test in mean),
        text=text,
    )


def _stimuli_answer(study: Study) -> Answer | None:
    counts = [] if study.stimuli is None else _success(study)
    if not counts:
        return None
    return Answer(
        title="Did the images reach their criterion?",
        number=", ".join(f"{row[0]} {row[3]}" for row in counts),
        text="Counted on the saved 8-bit PNG, read back from disk.",
    )


def _recovery_answer(study: Study) -> Answer | None:
    rows = study.rows("recovery")
    if rows.empty:
        return None
    passed = rows["pass"].map(_true)
    missed = f" Not found: {name_ids(rows['what'][~passed])}." if not passed.all() else ""
    return Answer(
        title="Does the pipeline find what the simulation put in?",
        number=f"{int(passed.sum())} of {len(rows)} planted facts recovered",
        text=f"Each with its criterion in the table further down.{missed}",
    )


def _true(value: object) -> bool:
    return str(value).lower() in ("true", "1", "1.0", "yes")


def _criterion(study: Study, kind: str) -> float | None:
    """The confidence asked for, from the settings of the generator of this kind; None when they do not tell."""
    word = {"AN": "noise", "AI": "interference"}[kind]
    for section, values in study.section("settings").items():
        for name, value in values.items() if isinstance(values, Mapping) else ():
            if "confidence" in name and isinstance(value, (int, float)):
                if word in section or word in name or (section in ("stimuli", "adversarial") and name == "confidence"):
                    return float(value)
    return None


def _success(study: Study) -> list[list[str]]:
    """Rows of the success table: kind, images, criterion met by the float image, by the PNG, confidences, steps."""
    assert study.stimuli is not None
    table, out = study.stimuli.table, []
    for kind in ("AN", "AI"):
        rows = table[table["kind"] == kind]
        if rows.empty or "success" not in rows.columns:
            continue
        criterion, of = _criterion(study, kind), f" of {len(rows)}"
        as_float = pd.to_numeric(rows.get("confidence_float", pd.Series(dtype=float)), errors="coerce").dropna()
        as_png = pd.to_numeric(rows.get("confidence_png", pd.Series(dtype=float)), errors="coerce").dropna()
        steps = pd.to_numeric(rows.get("steps", pd.Series(dtype=float)), errors="coerce").dropna()
        met = "–" if criterion is None or as_float.empty else f"{int((as_float >= criterion).sum())}{of}"
        spread = "–" if as_png.empty else f"{_cell(as_png.min())} / {_cell(as_png.median())}"
        out.append([
            kind, "–" if criterion is None else f"p ≥ {criterion:g}", met,
            f"{int(rows['success'].map(_true).sum())}{of}", spread, "–" if steps.empty else f"{steps.median():g}",
        ])  # fmt: skip
    return out


# ---------------------------------------------------------------------------------------------------------- sections


def _picture(study: Study, name: str, figure: Figure, caption: str, alt: str, *, raster: bool = False) -> Picture:
    """Save a figure into the study and embed it: vectors where the figure has few pixels of its own."""
    svg, png = figures.save_figure(figure, study.folder / "figures" / name)
    path, mime = (png, "image/png") if raster else (svg, "image/svg+xml")
    source = f"data:{mime};base64,{base64.b64encode(path.read_bytes()).decode()}"
    width = round(float(figure.get_size_inches()[0]) * 96)
    return Picture(name=name, source=source, caption=caption, alt=alt, width_px=width)


def _stamped(study: Study, caption: str, *, brain: bool) -> str:
    stamp = study.brain_stamp if brain else study.network_stamp
    return f"{stamp[0].upper()}{stamp[1:]}. {caption}" if stamp else caption


def _stimuli_section(study: Study) -> Section:
    title = "Stimuli"
    if study.stimuli is None:
        return Section(key="stimuli", title=title, missing="The folder holds no stimuli, so no sheet is shown.")
    table = study.stimuli.table
    n_all, limit = table["reference_id"].nunique(), 16
    keep = np.flatnonzero(table["reference_id"].isin(list(dict.fromkeys(table["reference_id"]))[:limit]))
    shown = table.iloc[keep].reset_index(drop=True)
    figure = figures.stimulus_sheet(study.stimuli.images[keep], shown, limit=limit, stamp=study.network_stamp)
    missing = [kind for kind in figures.KINDS if not (table["kind"] == kind).any()]
    rest = f" {limit} of {n_all} photographs are shown; the others are in stimuli/png." if n_all > limit else ""
    caption = (
        f"Regular photographs (RE) and the images made from them, as the saved 8-bit PNG holds them. "
        f"n = {n_all} photographs. Under each image: the network's first class and its confidence on the PNG.{rest}"
    )
    alt = f"Sheet of {min(n_all, limit)} photographs and the images made from them. The same facts are in stimuli.csv."
    counts = _success(study)
    grid = Grid(
        caption=_stamped(study, "Images that reached their criterion", brain=False),
        columns=("kind", "criterion", "met by the float image", "met by the saved PNG",
                 "confidence on the PNG, lowest / median", "steps, median"),
        rows=counts,
        n_rows=len(counts),
        source="stimuli/stimuli.csv",
    )  # fmt: skip
    return Section(
        key="stimuli",
        title=title,
        text=[f"No {' and no '.join(missing)} images were made in this study."] if missing else [],
        pictures=[
            _picture(study, "stimuli", figure, _stamped(study, caption, brain=False), alt, raster=True),
        ],
        grids=[grid] if counts else [],
    )


def _rdm_stack(rdms: RDMs, column: str) -> tuple[np.ndarray, list[str], list[str], list[str]]:
    """Sort RDMs of all stimuli into kinds × columns, photographs in one order, mean percentile over subjects.

    Returns the matrices (n_kinds, n_columns, n, n), the kinds, the columns and the photographs. A photograph that a
    kind lacks has missing values there.
    """
    names = np.asarray(rdms.pattern_descriptors["reference_id"], dtype=str)
    kinds = np.asarray(rdms.pattern_descriptors["kind"], dtype=str)
    places = np.asarray(rdms.rdm_descriptors.get(column, ["all"] * rdms.n_rdm), dtype=str)
    square, order = rdms.get_matrices(), list(dict.fromkeys(names))
    rows = [kind for kind in figures.KINDS if kind in kinds]
    columns = figures.order_places(places) if column == "roi" else list(dict.fromkeys(places))
    out = np.full((len(rows), len(columns), len(order), len(order)), np.nan)
    for i, kind in enumerate(rows):
        at = {names[index]: index for index in np.flatnonzero(kinds == kind)}
        have = [k for k, name in enumerate(order) if name in at]
        pick = np.ix_([at[order[k]] for k in have], [at[order[k]] for k in have])
        for j, place in enumerate(columns):
            ranked = [figures.percentile_rdm(square[k][pick]) for k in np.flatnonzero(places == place)]
            out[i, j][np.ix_(have, have)] = np.mean(ranked, axis=0)
    return out, rows, columns, order


def _rdm_picture(study: Study, system: str, column: str) -> Picture:
    matrices, kinds, columns, order = _rdm_stack(study.rdms[system], column)
    stamp = study.brain_stamp if system == "brain" else study.network_stamp
    figure = figures.rdm_heatmaps(
        matrices, row_titles=kinds, column_titles=columns, conditions=order if len(order) <= 16 else (), stamp=stamp
    )
    subjects = study.rdms[system].rdm_descriptors.get("subject", ())
    pooled = (
        f" Mean over {len(set(map(str, subjects)))} subjects of each subject's percentiles." if system == "brain" else ""
    )
    measure = study.rdms[system].dissimilarity_measure
    caption = (
        f"RDMs of the {system}: {' / '.join(kinds)} in rows, {'ROIs' if system == 'brain' else 'layers'} in columns; "
        f"n = {len(order)} photographs{f', {measure}' if measure else ''}. Colors are percentiles within each RDM "
        f"(0 = most alike pair), the same order of photographs everywhere: {', '.join(order)}.{pooled}"
    )
    alt = f"Heat maps of {len(kinds)} × {len(columns)} RDMs of the {system}, {len(order)} photographs each."
    return _picture(study, f"rdms_{system}", figure, _stamped(study, caption, brain=system == "brain"), alt)


def _rdm_section(study: Study) -> Section:
    wanted = (("network", "stage"), ("brain", "roi"))
    pictures = [_rdm_picture(study, system, column) for system, column in wanted if system in study.rdms]
    absent = [system for system, _ in wanted if system not in study.rdms]
    text = f"The folder holds no RDMs of the {' nor of the '.join(absent)}." if absent else ""
    return Section(
        key="rdms",
        title="Representational dissimilarity",
        text=[text] if pictures and text else [],
        pictures=pictures,
        missing="" if pictures else text,
    )


def _similarity_section(study: Study) -> Section:
    pictures, absent = [], []
    for system in ("network", "brain"):
        rows = study.rows("similarity", system=system)
        rows = rows[rows["pair"].isin(list(figures.PAIRS))]
        if rows.empty:
            absent.append(system)
            continue
        stamp = study.brain_stamp if system == "brain" else study.network_stamp
        where = "one panel a subject, over ROIs" if system == "brain" else "over layers"
        twin = "3" if system == "brain" else "5"
        caption = (
            f"Similarity of the RDM of regular images with that of noise (RE–AN) and of interference images (RE–AI), "
            f"{system}, {where}; laid out as Fig. {twin} of Zhang et al. (2021). {_bounds(rows)}"
        )
        alt = "; ".join(
            f"{row.subject + ' ' if row.subject else ''}{row.place}: RE–AN {figures.format_number(row.similarity_an)}, "
            f"RE–AI {figures.format_number(row.similarity_ai)}"
            for row in _pairs(rows).itertuples()
        )
        figure = figures.similarity_bars(rows, system=system, stamp=stamp)
        caption = _stamped(study, caption, brain=system == "brain")
        pictures.append(_picture(study, f"similarity_{system}", figure, caption, f"Bars. {alt}."))
    text = f"The tables hold no RE–AN or RE–AI similarity of the {' nor of the '.join(absent)}." if absent else ""
    return Section(
        key="similarity",
        title="RE–AN and RE–AI similarity",
        text=[text] if pictures and text else [],
        pictures=pictures,
        missing="" if pictures else text,
    )


def _bounds(rows: pd.DataFrame) -> str:
    """Say n, the interval method and the ceiling convention of these rows, as the table names them."""
    parts = [figures.describe_sizes(rows)]
    for column, name in (("method", "Intervals"), ("ceiling", "Noise ceiling")):
        if column in rows.columns and (values := list(dict.fromkeys(rows[column].dropna().astype(str)))):
            parts.append(f"{name}: {'; '.join(values)}")
    return ". ".join(part.rstrip(".") for part in parts if part) + "."


def _layer_roi_section(study: Study) -> Section:
    title = "Layers and areas"
    rows = study.rows("layer_roi")
    rows = rows[rows["kind"] == "RE"] if "kind" in rows.columns else rows
    if rows.empty:
        return Section(key="layer-roi", title=title, missing="There is no tables/layer_roi.csv with regular images.")
    caption = f"Similarity of each layer's RDM with each ROI's, regular images, mean over subjects. {_bounds(rows)}"
    best = "; ".join(
        f"{row.roi}: {row.layer}, {figures.format_number(row.similarity)}" for row in _best_layers(study).itertuples()
    )
    lines = f"The same numbers over layers, one panel a ROI, each subject as a dot. {_bounds(rows)}"
    matrix = figures.layer_roi_matrix(rows, stamp=study.brain_stamp)
    panels = figures.layer_roi_lines(rows, stamp=study.brain_stamp)
    return Section(
        key="layer-roi",
        title=title,
        pictures=[
            _picture(study, "layer_roi", matrix, _stamped(study, caption, brain=True), f"Best layers. {best}."),
            _picture(study, "layer_roi_lines", panels, _stamped(study, lines, brain=True), f"Lines. {best}."),
        ],
    )


def _encoding_section(study: Study) -> Section:
    title = "Voxel encoding"
    rows = study.rows("encoding")
    if rows.empty:
        return Section(key="encoding", title=title, missing="There is no tables/encoding.csv.")
    figure = figures.encoding_bars(rows, stamp=study.brain_stamp)
    scheme = "; ".join(dict.fromkeys(rows["scheme"].dropna().astype(str))) if "scheme" in rows.columns else ""
    answer = _encoding_answer(study)
    caption = (
        f"Correlation of measured and predicted voxel responses; models trained on regular images"
        f"{f' ({scheme})' if scheme else ''}. Mean over {rows['subject'].nunique()} subjects; dots are subjects. "
        f"{_bounds(rows)}"
    )
    alt = f"Mean r: {answer.number}." if answer else "No finite values."
    return Section(
        key="encoding",
        title=title,
        pictures=[_picture(study, "encoding", figure, _stamped(study, caption, brain=True), alt)],
    )


def _recovery_section(study: Study) -> Section:
    title = "Planted truth and what was found"
    rows = study.rows("recovery")
    if rows.empty:
        return Section(key="recovery", title=title, missing="Nothing was planted: there is no tables/recovery.csv.")
    marked = rows.assign(**{"pass": ["✓ pass" if _true(value) else "✗ fail" for value in rows["pass"]]})
    names = [name for name in ("what", "planted", "found", "criterion", "pass") if name in marked.columns]
    caption = _stamped(study, "What the simulation put in and what the analysis found", brain=True)
    text = "The simulated cortex was read back through the same path as real data."
    return Section(
        key="recovery", title=title, text=[text], grids=[_grid(marked[names], caption, "tables/recovery.csv", 10**6)]
    )


def _cell(value: object) -> str:
    if value is None or (isinstance(value, float) and not np.isfinite(value)) or value is pd.NA:
        return "–"
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    if isinstance(value, (float, np.floating)):
        return f"{value:.4g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_cell, value))
    return str(value)


def _grid(table: pd.DataFrame, caption: str, source: str, limit: int = LONG_TABLE) -> Grid:
    rows = [[_cell(value) for value in row] for row in table.head(limit).itertuples(index=False, name=None)]
    return Grid(caption=caption, columns=list(map(str, table.columns)), rows=rows, n_rows=len(table), source=source)


def _all_tables(study: Study) -> list[Grid]:
    captions = {
        "similarity": "RE–AN and RE–AI similarity",
        "layer_roi": "Layers and ROIs",
        "encoding": "Voxel encoding",
        "recovery": "Planted and found",
    }
    out = [
        _grid(table, _stamped(study, captions[name], brain=True), f"tables/{name}.csv")
        for name, table in study.tables.items()
    ]
    if study.stimuli is not None:
        table = study.stimuli.table.dropna(axis="columns", how="all")
        out.append(_grid(table, _stamped(study, "Stimuli", brain=False), "stimuli/stimuli.csv"))
    return out


def _flat(value: object, name: str = "") -> Iterator[tuple[str, str]]:
    """Turn nested settings into (dotted name, text), keys in the order of the file."""
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else str(key))
    else:
        yield name, "–" if value in ({}, [], None) else _cell(value)


def _settings(study: Study) -> list[Grid]:
    """Every setting, then what else makes the result again: model, brain, seed, digests, versions, times."""
    out = []
    parts = (("settings", "Settings"), ("model", "Network"), ("brain", "Brain"), ("digests", "Digests of the inputs"))
    for key, caption in (*parts, ("versions", "Versions"), ("seconds", "Seconds a step took")):
        rows = [list(pair) for pair in _flat(study.section(key)) if pair[0]]
        if key == "versions":
            rows += [[name, _cell(study.provenance[name])] for name in ("python", "machine") if name in study.provenance]
        if key == "settings" and "seed" in study.provenance:
            rows.insert(0, ["seed", _cell(study.provenance["seed"])])
        if rows:
            out.append(Grid(caption=caption, columns=("name", "value"), rows=rows, n_rows=len(rows)))
    return out


def _honesty(study: Study) -> list[tuple[str, str]]:
    """Say of each ingredient whether it is real."""
    model, brain = study.section("model"), study.section("brain")
    name, weights = model.get("name", "the network"), model.get("weights", "")
    network = (
        f"{name} with random weights: it was never trained, so its numbers say what the architecture alone does."
        if study.network_stamp
        else f"{name}, trained weights{f' ({weights})' if weights else ''}: real activations."
    )
    has_brain = bool(brain) or not study.rows("similarity", system="brain").empty
    if not has_brain:
        cortex = "None in this study."
    elif _simulated(study):
        cortex = (
            "Simulated, with known truth. No person was scanned; the brain numbers show that the pipeline finds what "
            "was planted and say nothing about human cortex."
        )
    else:
        cortex = "Measured BOLD given by the user; its quality is not judged here."
    images = "RE are photographs; AN and AI were computed for this network. No person was asked what they show."
    return [("Images", images), ("Network", network), ("Brain", cortex)]


# ------------------------------------------------------------------------------------------------------------- build


def build_report(folder: str | os.PathLike[str]) -> Path:
    """Draw the figures of a study and write its page.

    Parameters
    ----------
    folder : path-like
        A study folder. Read: ``provenance.json``, ``study.toml``, ``tables/*.csv``, ``stimuli/``, ``rdms/*.h5``.
        Written: ``figures/*.svg``, ``figures/*.png``, ``report.html``. Parts that the study lacks are left out of the
        page with a line that says so.

    Returns
    -------
    Path
        ``report.html``: self-contained, the same bytes for the same study.

    Raises
    ------
    InputError
        When the folder is missing, is not a study, or holds a file that cannot be read.
    """
    import jinja2

    study = read_study(folder)
    makers: tuple[Callable[[Study], Section], ...] = (
        _stimuli_section, _similarity_section, _layer_roi_section, _rdm_section, _encoding_section, _recovery_section,
    )  # fmt: skip
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("neurometamer"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    notes = study.provenance.get("notes") or []
    page = environment.get_template("report.html").render(
        model=str(study.section("model").get("name", "a network")),
        weights=str(study.section("model").get("weights", "")),
        subjects=[str(one) for one in study.section("brain").get("subjects") or []],
        simulated=_simulated(study),
        stamps=_banner(study),
        answers=answers(study),
        sections=[make(study) for make in makers],
        tables=_all_tables(study),
        settings=_settings(study),
        notes=[str(note) for note in ([notes] if isinstance(notes, str) else notes)],
        recipe=study.recipe,
        honesty=_honesty(study),
        references=REFERENCES,
        version=str(study.section("versions").get("neurometamer", "")),
    )
    return write_text(study.folder / "report.html", page)


def _banner(study: Study) -> list[tuple[str, str]]:
    out = []
    if _simulated(study):
        out.append(("Simulated cortex", "every brain number on this page comes from a simulation with known truth."))
    if study.network_stamp:
        out.append(("Untrained network", "the weights are random; nothing here describes a trained network."))
    return out

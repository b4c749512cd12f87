"""One HTML file from a study folder: reads the tables, images and RDMs on disk, draws the figures, writes the page.

Nothing is computed here but counts, means and best values of what the tables hold, so the page can say no more than
they do. The page holds its figures, loads nothing, and needs no JavaScript.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from neurometamer.answers import (
    answers,
    best_layers,
    encoding_answer,
    is_true,
    paired_similarity,
    scheme_note,
    success_rows,
)
from neurometamer.figures import study as figures
from neurometamer.figures.style import KINDS, PAIRS, describe_sizes, format_number, order_places
from neurometamer.page import (
    Grid,
    Picture,
    Section,
    cell_text,
    embed_figure,
    flat_settings,
    folded_grid,
    table_grid,
    write_page,
)
from neurometamer.study_folder import Study, read_study

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rsatoolbox.rdm import RDMs

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


def _picture(study: Study, name: str, figure: Figure, caption: str, alt: str, *, raster: bool = False) -> Picture:
    return embed_figure(study.folder, name, figure, caption, alt, raster=raster)


def _stamped(study: Study, caption: str, *, brain: bool) -> str:
    stamp = study.brain_stamp if brain else study.network_stamp
    return f"{stamp[0].upper()}{stamp[1:]}. {caption}" if stamp else caption


def _titled(caption: str, stamp: str) -> str:
    return f"{caption} · {stamp}" if stamp else caption


def _stimuli_section(study: Study) -> Section:
    title = "Stimuli"
    if study.stimuli is None:
        return Section(key="stimuli", title=title, missing="The folder holds no stimuli, so no sheet is shown.")
    table = study.stimuli.table
    n_all, limit = table["reference_id"].nunique(), 16
    figure = figures.stimulus_sheet(np.asarray(study.stimuli.images), table, limit=limit, stamp=study.network_stamp)
    missing = [kind for kind in KINDS if not (table["kind"] == kind).any()]
    rest = f" {limit} of {n_all} photographs are shown; the others are in stimuli/png." if n_all > limit else ""
    caption = (
        f"Regular photographs (RE) and the images made from them, as the saved 8-bit PNG holds them. "
        f"n = {n_all} photographs. Under each image: the network's first class and its confidence on the PNG.{rest}"
    )
    alt = f"Sheet of {min(n_all, limit)} photographs and the images made from them. The same facts are in stimuli.csv."
    counts = success_rows(study)
    grid = Grid(
        caption=_titled("Images that reached their criterion", study.network_stamp),
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


def _transfer_section(study: Study) -> Section | None:
    """Tell what other networks say to the same files; None where none was asked."""
    rows = study.rows("transfer")
    if rows.empty:
        return None
    name = str(study.section("model").get("name", ""))
    cells = []
    for row in rows.to_dict("records"):
        said = [f"{round(row[key] * row['n'])} of {row['n']}" for key in ("says_target", "says_as_photograph")]
        judge = f"{row['judge']} (made for it)" if row["judge"] == name else row["judge"]
        cells.append([judge, row["kind"], said[0], format_number(row["target_probability"], 3), said[1]])
    text = (
        "The saved PNG files shown to each network through its own preprocessing. A network “says” its first class. "
        "The target is the class that the image was made for; the last column counts images that get the class which "
        "the same network gives to the photograph they come from."
    )
    grid = Grid(
        caption=_titled("What networks say to the AN and AI images", study.network_stamp),
        columns=("network", "kind", "says the target", "mean p(target)", "says what it says to the photograph"),
        rows=cells,
        n_rows=len(cells),
        source="tables/transfer.csv",
    )
    return Section(key="transfer", title="Do other networks see the same?", text=[text], grids=[grid])


def _metamer_section(study: Study) -> Section | None:
    """Show metamers of one network beside those of a set, and what others say to them; None where none were made."""
    rows = study.rows("metamers")
    if rows.empty:
        return None
    cells = []
    for (judge, name), part in rows.groupby(["judge", "set"], sort=False):
        valid = [is_true(one) for one in part["valid"].dropna()] if "valid" in part else []
        told = [f"{sum(map(is_true, part[key]))} of {len(part)}" for key in ("success", "same_class", "top5")]
        above = f"{sum(valid)} of {len(valid)}" if valid else "–"
        cells.append([str(name), told[0], above, str(judge), told[1], told[2], format_number(part["p"].mean(), 3)])
    grid = Grid(
        caption=_titled("What the networks and a judge that had no part say", study.network_stamp),
        columns=("made for", "same class to all of them", "valid (16 classes, above the null)", "judge",
                 "says the photograph's class", "has it among its first five", "mean p(photograph's class)"),
        rows=cells,
        n_rows=len(cells),
        source="tables/metamers.csv",
    )  # fmt: skip
    pictures = []
    if study.metamers:
        images = {f"{name} {one}": image for name, given in study.metamers.items()
                  for one, image in zip(given.ids, np.asarray(given.images))}  # fmt: skip
        first = next(iter(study.metamers.values()))
        photographs = dict(zip(first.ids, np.asarray(first.images)))
        for judge in dict.fromkeys(rows["judge"]):
            figure = figures.metamer_sheet(images, photographs, rows, judge=judge, stamp=study.network_stamp)
            caption = (
                f"Photographs and their metamers, as the saved 8-bit PNG holds them; "
                f"n = {rows['reference_id'].nunique()} photographs. {judge} saw them "
                "through its own preprocessing. Every number is in tables/metamers.csv."
            )
            alt = "; ".join(
                f"{row[1]}: {judge} says what it says to the photograph to {row[4]}" for row in cells if row[3] == judge
            )
            caption = _stamped(study, caption, brain=False)
            pictures.append(_picture(study, f"metamers_{judge}", figure, caption, f"{alt}.", raster=True))
    return Section(
        key="metamers", title="Metamers: same to one network, to several, to another?",
        text=_metamer_text(study), pictures=pictures, grids=[grid],
    )  # fmt: skip


def _metamer_text(study: Study) -> list[str]:
    """Say how the metamers were made, and what the preset's source leaves open."""
    chosen = study.section("settings").get("metamers") or {}
    steps = sorted(set(study.rows("metamers").get("steps", pd.Series(dtype=int))))
    changed = ", ".join(f"{name} = {value}" for name, value in (chosen.get("overrides") or {}).items())
    text = [
        "A metamer starts as noise and is changed until each network it is made for responds to it as to the "
        f"photograph at one stage. Stage: {chosen.get('stage', '–')}; preset: {chosen.get('preset', '–')}"
        f"{f' with {changed}' if changed else ''}; mode: {chosen.get('mode', '–')}; steps: "
        f"{', '.join(map(str, steps)) or '–'}. The null: the likeness of responses to different photographs "
        "of this study.",
    ]
    if choices := study.section("metamers").get("open_choices"):
        text.append(f"What the preset leaves open, and what is chosen here: {'; '.join(map(str, choices))}.")
    return text


def _rdm_stack(rdms: RDMs, column: str) -> tuple[np.ndarray, list[str], list[str], list[str]]:
    """Sort RDMs of all stimuli into kinds × columns, photographs in one order, mean percentile over subjects.

    Returns the matrices (n_kinds, n_columns, n, n), the kinds, the columns and the photographs. A photograph that a
    kind lacks has missing values there.
    """
    names = np.asarray(rdms.pattern_descriptors["reference_id"], dtype=str)
    kinds = np.asarray(rdms.pattern_descriptors["kind"], dtype=str)
    places = np.asarray(rdms.rdm_descriptors.get(column, ["all"] * rdms.n_rdm), dtype=str)
    square, order = rdms.get_matrices(), list(dict.fromkeys(names))
    rows = [kind for kind in KINDS if kind in kinds]
    columns = order_places(places) if column == "roi" else list(dict.fromkeys(places))
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
        f" Mean over {len(set(map(str, subjects)))} subjects of each subject's percentiles."
        if system == "brain"
        else ""
    )
    measure = study.rdms[system].dissimilarity_measure
    listed = f": {', '.join(order)}" if len(order) <= 16 else ", that of stimuli.csv"
    caption = (
        f"RDMs of the {system}: {' / '.join(kinds)} in rows, {'ROIs' if system == 'brain' else 'layers'} in columns; "
        f"n = {len(order)} photographs{f', {measure}' if measure else ''}. Colors are percentiles within each RDM "
        f"(0 = most alike pair), the same order of photographs everywhere{listed}.{pooled}"
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
        rows = rows[rows["pair"].isin(list(PAIRS))]
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
            f"{row['subject']} {row['place']}: RE–AN {format_number(row['similarity_an'])}, "
            f"RE–AI {format_number(row['similarity_ai'])}".strip()
            for row in paired_similarity(study, system).to_dict("records")
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
    parts = [describe_sizes(rows)]
    if "subject" in rows.columns and (rows["subject"] == "mean").any():
        rows = rows[rows["subject"] == "mean"]  # what is drawn with an interval
    for column, name in (("method", "Method"), ("ceiling", "Noise ceiling")):
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
        f"{row['roi']}: {row['layer']}, {format_number(row['similarity'])}"
        for row in best_layers(study).to_dict("records")
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
    answer = encoding_answer(study)
    caption = (
        f"Correlation of measured and predicted voxel responses; models trained on regular images"
        f"{f' ({scheme})' if scheme else ''}. Mean over {rows['subject'].nunique()} subjects; dots are subjects. "
        f"Intervals are in the table, not drawn. {_bounds(rows)}"
    )
    note = scheme_note(study)
    alt = f"Mean r: {answer.number}." if answer else "No finite values."
    return Section(
        key="encoding",
        title=title,
        text=[note] if note else [],
        pictures=[_picture(study, "encoding", figure, _stamped(study, caption, brain=True), alt)],
    )


def _recovery_section(study: Study) -> Section:
    title = "Planted truth and what was found"
    rows = study.rows("recovery")
    if rows.empty:
        return Section(key="recovery", title=title, missing="Nothing was planted: there is no tables/recovery.csv.")
    marked = rows.assign(**{"pass": ["✓ pass" if is_true(value) else "✗ fail" for value in rows["pass"]]})
    names = [name for name in ("what", "planted", "found", "criterion", "pass") if name in marked.columns]
    caption = _titled("What the simulation put in and what the analysis found", study.brain_stamp)
    text = "The simulated cortex was read back through the same path as real data."
    return Section(
        key="recovery",
        title=title,
        text=[text],
        grids=[table_grid(marked[names], caption, "tables/recovery.csv", limit=10**6)],
    )


def _all_tables(study: Study) -> list[Grid]:
    captions = {
        "transfer": "Other networks",
        "metamers": "Metamers",
        "similarity": "RE–AN and RE–AI similarity",
        "similarity_difference": "Difference of the two, from the same resamples",
        "layer_roi": "Layers and ROIs",
        "encoding": "Voxel encoding",
        "recovery": "Planted and found",
    }
    out = [
        folded_grid(
            table,
            _titled(captions[name], study.network_stamp if name in ("transfer", "metamers") else study.brain_stamp),
            f"tables/{name}.csv",
        )
        for name, table in study.tables.items()
        if len(table)
    ]
    if study.stimuli is not None:
        table = study.stimuli.table.dropna(axis="columns", how="all")
        out.append(folded_grid(table, _titled("Stimuli", study.network_stamp), "stimuli/stimuli.csv"))
    return out


def _settings(study: Study) -> list[Grid]:
    """Every setting, then what else makes the result again: model, brain, seed, digests, versions, times."""
    out = []
    parts = (("settings", "Settings"), ("model", "Network"), ("brain", "Brain"), ("digests", "Digests of the inputs"))
    for key, caption in (*parts, ("versions", "Versions"), ("seconds", "Seconds a step took")):
        rows = [list(pair) for pair in flat_settings(study.section(key)) if pair[0]]
        if key == "versions":
            rows += [
                [name, cell_text(study.provenance[name])] for name in ("python", "machine") if name in study.provenance
            ]
        if key == "settings" and "seed" in study.provenance:
            rows.insert(0, ["seed", cell_text(study.provenance["seed"])])
        if rows:
            out.append(Grid(caption=caption, columns=("name", "value"), rows=rows, n_rows=len(rows)))
    return out


def _honesty(study: Study) -> list[tuple[str, str]]:
    """Say of each ingredient whether it is real."""
    model = study.section("model")
    name, weights = model.get("name", "the network"), model.get("weights", "")
    network = (
        f"{name} with random weights: it was never trained, so its numbers say what the architecture alone does."
        if study.network_stamp
        else f"{name}, trained weights{f' ({weights})' if weights else ''}: real activations."
    )
    if not study.cortex:
        cortex = "None in this study."
    elif study.simulated:
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
    study = read_study(folder)
    makers: tuple[Callable[[Study], Section | None], ...] = (
        _stimuli_section, _transfer_section, _metamer_section, _similarity_section, _layer_roi_section, _rdm_section,
        _encoding_section, _recovery_section,
    )  # fmt: skip
    notes = study.provenance.get("notes") or []
    return write_page(
        study.folder / "report.html",
        "report.html",
        model=str(study.section("model").get("name", "a network")),
        weights=str(study.section("model").get("weights", "")),
        subjects=[str(one) for one in study.section("brain").get("subjects") or []],
        simulated=study.simulated,
        cortex=study.cortex,
        stamps=_banner(study),
        answers=answers(study),
        sections=[section for make in makers if (section := make(study)) is not None],
        tables=_all_tables(study),
        settings=_settings(study),
        notes=[str(note) for note in ([notes] if isinstance(notes, str) else notes)],
        recipe=study.recipe,
        honesty=_honesty(study),
        references=REFERENCES,
        version=str(study.section("versions").get("neurometamer", "")),
    )


def _banner(study: Study) -> list[tuple[str, str]]:
    out = []
    if study.simulated:
        out.append(("Simulated cortex", "every brain number on this page comes from a simulation with known truth."))
    if study.network_stamp:
        out.append(("Untrained network", "the weights are random; nothing here describes a trained network."))
    return out

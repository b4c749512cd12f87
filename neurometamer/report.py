"""One HTML file from a study folder: reads the tables, images and RDMs on disk, draws the figures, writes the page.

Nothing is computed here but counts and means of what the tables hold (and, for figures, mean RDMs and the places of
stimuli), so the page can say no more than they do. The page holds its figures, loads nothing, and needs no JavaScript.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from neurometamer.answers import answers, encoding_answer, interval_notes, is_true, scheme_note, success_rows
from neurometamer.figures import study as figures
from neurometamer.figures.style import KINDS, format_number
from neurometamer.page import Grid, Section, cell_text, flat_settings, folded_grid, table_grid, write_page
from neurometamer.report_rsa import (
    bounds,
    kinds_section,
    layers_section,
    picture,
    places_section,
    rdms_section,
    sheet_order,
    titled,
)
from neurometamer.study_folder import Study, read_study

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


def _stimuli_section(study: Study) -> Section:
    title = "Stimuli"
    if study.stimuli is None:
        return Section(key="stimuli", title=title, missing="The folder holds no stimuli, so no sheet is shown.")
    order = sheet_order(study.stimuli.table)
    table = study.stimuli.table.iloc[order].reset_index(drop=True)
    n_all, limit = table["reference_id"].nunique(), 16
    images = np.asarray(study.stimuli.images)[order]
    figure = figures.stimulus_sheet(images, table, limit=limit, stamp=study.network_stamp)
    missing = [kind for kind in KINDS if not (table["kind"] == kind).any()]
    rest = f" {limit} of {n_all} photographs are shown; the others are in stimuli/png." if n_all > limit else ""
    caption = (
        f"Regular photographs (RE) and the images made from them, as the saved 8-bit PNG holds them. "
        f"n = {n_all} photographs, in the order of all figures (by category, then name). Under each image: the "
        f"network's first class and its confidence on the PNG.{rest}"
    )
    alt = f"Sheet of {min(n_all, limit)} photographs and the images made from them. The same facts are in stimuli.csv."
    counts = success_rows(study)
    grid = Grid(
        caption=titled("Images that reached their criterion", study.network_stamp),
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
        pictures=[picture(study, "stimuli", figure, caption, alt, table=_sheet_numbers(table), raster=True)],
        grids=[grid] if counts else [],
    )


def _sheet_numbers(table: pd.DataFrame) -> pd.DataFrame:
    names = ("id", "kind", "reference_id", "category", "top1_name", "confidence_png", "target_name", "success")
    return table[[name for name in names if name in table.columns]]


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
        caption=titled("What networks say to the AN and AI images", study.network_stamp),
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
        caption=titled("What the networks and a judge that had no part say", study.network_stamp),
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
                "through its own preprocessing."
            )
            alt = "; ".join(
                f"{row[1]}: {judge} says what it says to the photograph to {row[4]}" for row in cells if row[3] == judge
            )
            said = rows[rows["judge"] == judge]
            pictures.append(picture(study, f"metamers_{judge}", figure, caption, f"{alt}.", table=said, raster=True))
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
    rows = study.rows("metamers")
    if "image_prior" in rows:
        text.append(_prior_text(rows["image_prior"].astype(str)))
    if choices := study.section("metamers").get("open_choices"):
        text.append(f"What the preset leaves open, and what is chosen here: {'; '.join(map(str, choices))}.")
    return text


def _prior_text(priors: pd.Series) -> str:
    """Say whether metamers look natural for another reason than what the networks respond to."""
    found = "; ".join(dict.fromkeys(one for one in priors if one != "none"))
    if not found:
        return "No prior of natural images was used: steps were taken on pixels, without a penalty."
    return (
        f"A prior of natural images was used: {found}. It makes metamers easier to recognize whatever the network "
        'responds to; preset "pixels" has none.'
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
        f"Intervals are in the table, not drawn. {bounds(rows)}"
    )
    note = scheme_note(study)
    alt = f"Mean r: {answer.number}." if answer else "No finite values."
    return Section(
        key="encoding",
        title=title,
        text=[note] if note else [],
        pictures=[picture(study, "encoding", figure, caption, alt, table=rows, brain=True)],
    )


def _recovery_section(study: Study) -> Section:
    title = "Planted truth and what was found"
    rows = study.rows("recovery")
    if rows.empty:
        return Section(key="recovery", title=title, missing="Nothing was planted: there is no tables/recovery.csv.")
    marked = rows.assign(**{"pass": ["✓ pass" if is_true(value) else "✗ fail" for value in rows["pass"]]})
    names = [name for name in ("what", "planted", "found", "criterion", "pass") if name in marked.columns]
    caption = titled("What the simulation put in and what the analysis found", study.brain_stamp)
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
        "kinds": "RE–AN, RE–AI and their difference, with their tests",
        "trends": "Trends over layers",
        "layer_roi": "Layers and ROIs",
        "best_layer": "Best layer of each ROI, cross-validated and naive",
        "weighted": "Weighted layers, best layer and average, cross-validated",
        "weighted_difference": "Differences of these models",
        "hierarchy": "Order of ROIs and preferred layers",
        "encoding": "Voxel encoding",
        "recovery": "Planted and found",
    }
    out = [
        folded_grid(
            table,
            titled(
                captions[name], study.network_stamp if name in ("transfer", "metamers", "trends") else study.brain_stamp
            ),
            f"tables/{name}.csv",
        )
        for name, table in study.tables.items()
        if len(table)
    ]
    if study.stimuli is not None:
        table = study.stimuli.table.dropna(axis="columns", how="all")
        out.append(folded_grid(table, titled("Stimuli", study.network_stamp), "stimuli/stimuli.csv"))
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
        Written: ``figures/*.svg``, ``figures/*.png``, ``figures/*.csv`` (what each figure shows) and
        ``report.html``. Parts that the study lacks are left out of the page with a line that says so.

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
        _stimuli_section, _transfer_section, _metamer_section, kinds_section, layers_section, rdms_section,
        places_section, _encoding_section, _recovery_section,
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
        bounds=interval_notes(study),
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

"""The figures of a study's page, one entry of `FIGURES` each, and its example images.

Each figure is written as SVG and PNG with the CSV of what it shows. Stimuli have one order: kinds
RE, AN, AI, and photographs by category, then by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import pandas as pd

from neurometamer.errors import count_text
from neurometamer.figures import rsa as rsa_figures
from neurometamer.figures import study as figures
from neurometamer.figures.style import (
    KIND_NAMES,
    PAIRS,
    clip_name,
    describe_sizes,
    format_number,
    p_text,
)
from neurometamer.figures.tables import is_true, names_in
from neurometamer.report.disagreement import GENERATED, sheets
from neurometamer.report.findings import image_type_differences, similar_places
from neurometamer.report.layer_findings import encoding_answer, over_subjects, whose
from neurometamer.report.page import Drawing, Example, FigureEntry, example_image
from neurometamer.report.read_study import Study, texts_of
from neurometamer.report.study_rdms import arrangements, drawing, rdm_maps, sheet_order

MOST_PHOTOGRAPHS = 16
"""Photographs on the sheet of stimuli."""


# ------------------------------------------------------------------------------- what figures share


def bounds(rows: pd.DataFrame) -> str:
    """Say n, the interval method and the ceiling convention of these rows, as the table names them.

    Parameters
    ----------
    rows : pandas.DataFrame
        Rows of a table of results.

    Returns
    -------
    str
        Sentences.
    """
    parts = [describe_sizes(rows)]
    if "subject" in rows.columns and (rows["subject"] == "mean").any():
        rows = rows[rows["subject"] == "mean"]  # what is drawn with an interval
    for column, name in (("method", "Method"), ("ceiling", "Noise ceiling")):
        values = texts_of(rows, column)
        if values:
            parts.append(f"{name}: {'; '.join(values)}")
    return ". ".join(part.rstrip(".") for part in parts if part) + "."


def _has(table: str) -> Callable[[Study], bool]:
    """Give a condition of an entry: the study has rows of this table."""
    return lambda study: len(study.rows(table)) > 0


def _only(study: Study) -> str:
    return f"subject {study.subjects[0]}" if study.subjects else "one subject"


# --------------------------------------------------------------------------------- the first screen


def answer_charts(study: Study) -> Iterator[Drawing]:
    """Draw RE-AI minus RE-AN over layers and regions.

    Where there is one similarity only, that one is drawn.

    Parameters
    ----------
    study : Study
        As read.

    Yields
    ------
    Drawing
        One a system that the tables have.
    """
    cortex = "Simulated cortex" if study.simulated else "Cortex"
    titles = {
        "network": "Network, early to late layers",
        "brain": cortex,
    }
    named = False  # the first caption spells the abbreviations out
    for system, title in titles.items():
        rows = image_type_differences(study, system)
        if len(rows):
            label = "RE–AI minus RE–AN"
            caption = (
                "Above 0 images made to fool the network are nearer to their photographs, below 0 "
                "noise is."
            )
            if not named:
                caption = (
                    "Above 0 images made to fool the network, adversarial interference (AI), are "
                    "nearer to their photographs (RE), below 0 adversarial noise (AN) is."
                )
        else:
            rows = similar_places(study, system)
            if rows.empty:
                continue
            pair = rows["pair"].iloc[0]
            label = PAIRS.get(pair, str(pair))
            caption = "Similarity of the RDM of these images with that of their photographs."
            if not named and pair == "RE-AI":
                caption = (
                    "Similarity of the RDM of these images, adversarial interference (AI), with "
                    "that of their photographs (RE)."
                )
        named = True
        if np.isfinite(rows["ci_low"].astype(float)).any():
            caption += " Whiskers: intervals."
        brain = system == "brain"
        figure = figures.answer_marks(
            rows, title=title, label=label, stamp=study.stamp(brain=brain)
        )
        said = "; ".join(
            f"{row['representation']}: {row['follows']}" for row in rows.to_dict("records")
        )
        yield drawing(
            study,
            f"answer_{system}",
            figure,
            caption,
            f"Marks. {said}.",
            table=rows,
            brain=brain,
        )


DESCRIPTIONS = {
    "RE": "A photograph (RE)",
    "AI": "Adversarial interference (AI): made to fool a network",
    "AN": "Adversarial noise (AN): made to get the photograph's name",
    "metamer": "A metamer: made to excite the network like the photograph",
}
"""Kind of image to its title under an example."""


def lead_examples(study: Study) -> list[Example]:
    """Show one photograph and the images made from it, with the network's words.

    Parameters
    ----------
    study : Study
        As read.

    Returns
    -------
    list of Example
        Photograph, interference and noise, or photograph and metamer; empty where only photographs
        are shown.
    """
    examples = _adversarial_examples(study)
    rows = study.rows("metamers")
    for made_for, stimuli in study.metamers.items():
        of_set = rows[rows["set"] == made_for]
        if examples or of_set.empty:
            continue
        first = of_set.iloc[0]
        evaluator = str(first["evaluator"])
        photograph = stimuli.images[stimuli.ids.index(str(first["reference_id"]))]
        metamer = stimuli.images[stimuli.ids.index(str(first["id"]))]
        examples = [
            _example(photograph, "RE", first["evaluator_says_photograph"], evaluator),
            _example(metamer, "metamer", first["evaluator_says"], evaluator),
        ]
    return examples if len(examples) > 1 else []


def _adversarial_examples(study: Study) -> list[Example]:
    if study.stimuli is None:
        return []
    table = study.stimuli.table.reset_index(drop=True)
    table = table.iloc[sheet_order(table)]
    kinds = [kind for kind in ("RE", "AI", "AN") if (table["kind"] == kind).any()]
    names = table["reference_id"].astype(str)
    own_name = study.section("model").get("name")
    # The first photograph with all its images, each of which met its criterion, is taken; else the
    # first.
    failed = pd.Series(False, index=table.index)
    if "success" in table.columns:
        failed = table["success"].notna() & ~table["success"].map(is_true)
    chosen = table[names == names.iloc[0]]
    for name in dict.fromkeys(names):
        own = names == name
        if set(table["kind"][own]) >= set(kinds) and not failed[own].any():
            chosen = table[own]
            break
    examples = []
    for kind in kinds:
        for index, row in chosen[chosen["kind"] == kind].head(1).iterrows():
            speaker = str(row.get("model", "")) or "The network"
            if speaker == own_name:
                speaker = "The network"
            image = study.stimuli.images[[int(str(index))]][0]
            examples.append(_example(image, kind, row.get("top1_name"), speaker))
    return examples


def _example(image: np.ndarray, kind: str, said: object, speaker: str) -> Example:
    text = ""
    missing = said is None or (isinstance(said, float) and np.isnan(said))
    if not missing and str(said):
        text = f"{speaker} says “{clip_name(said, 30)}”."
    return example_image(image, DESCRIPTIONS[kind], text)


# ------------------------------------------------------------------------------------------- images


def stimulus_sheet(study: Study) -> Iterator[Drawing]:
    """Draw the photographs with the images made from them.

    Parameters
    ----------
    study : Study
        As read, with stimuli.

    Yields
    ------
    Drawing
        The sheet.
    """
    assert study.stimuli is not None
    order = sheet_order(study.stimuli.table)
    table = study.stimuli.table.iloc[order].reset_index(drop=True)
    n_all, limit = study.n_photographs, MOST_PHOTOGRAPHS
    figure = figures.stimulus_sheet(
        study.stimuli.select(ids=list(table["id"])).images,
        table,
        limit=limit,
        blocks=max(2, 6 // max(1, len(study.kinds))),
        stamp=study.network_stamp,
    )
    made = [KIND_NAMES[kind] for kind in ("AN", "AI") if kind in study.kinds]
    content, sources = "Photographs", ""
    if made:
        content = f"Photographs (RE), and {' and '.join(made)} made from them"
        sources = " and the images made from them"
    caption = (
        f"{content}, as the saved 8-bit PNG holds them; compressed on this page. n = "
        f"{count_text(n_all, 'photograph')}, in the order of all figures (by category, then "
        "name)."
    )
    if texts_of(table, "top1_name"):
        # The network whose classes the table holds.
        speaker = " and ".join(texts_of(table, "model")) or "the network"
        caption += f" Under each image: the first class of {speaker} and its confidence on the PNG."
    if n_all > limit:
        caption += f" {limit} of {n_all} photographs are shown; the others are in stimuli/png."
    shown = count_text(min(n_all, limit), "photograph")
    alt = f"Sheet of {shown}{sources}. The same facts are in stimuli.csv."
    columns = [name for name in SHEET_COLUMNS if name in table.columns]
    yield drawing(study, "stimuli", figure, caption, alt, table=table[columns], small=True)


SHEET_COLUMNS = (
    "id",
    "kind",
    "reference_id",
    "category",
    "top1_name",
    "confidence_png",
    "target_name",
    "success",
)
"""What the CSV of the sheet of stimuli holds, where the table has it."""


def metamer_sheets(study: Study) -> Iterator[Drawing]:
    """Draw metamers below their photographs, with what an evaluator says to them.

    Parameters
    ----------
    study : Study
        As read, with the images of metamers.

    Yields
    ------
    Drawing
        One sheet an evaluator.
    """
    everything = study.rows("metamers")
    for evaluator in dict.fromkeys(everything["evaluator"]):
        rows = everything[everything["evaluator"] == evaluator]
        first = rows["reference_id"].drop_duplicates().head(figures.MOST_METAMERS)
        shown = rows[rows["reference_id"].isin(first)]
        images: dict[str, np.ndarray] = {}  # by set and id
        photographs: dict[str, np.ndarray] = {}
        for name, stimuli in study.metamers.items():
            of_set = shown[shown["set"].astype(str) == name]
            wanted = [*of_set["id"].astype(str), *of_set["reference_id"].astype(str)]
            row_of = {stimulus: row for row, stimulus in enumerate(stimuli.ids)}
            for stimulus in dict.fromkeys(wanted):
                if stimulus in row_of:
                    image = stimuli.images[row_of[stimulus]]
                    images[f"{name} {stimulus}"] = image
                    photographs.setdefault(stimulus, image)
        figure = figures.metamer_sheet(
            images, photographs, rows, evaluator=str(evaluator), stamp=study.network_stamp
        )
        n_photographs = rows["reference_id"].nunique()
        caption = (
            "Photographs and their metamers, as the saved 8-bit PNG holds them; compressed on this "
            f"page. n = {count_text(n_photographs, 'photograph')}. {evaluator} saw them "
            "through its own preprocessing."
        )
        same = int(rows["same_class"].map(is_true).sum())
        alt = (
            f"{evaluator} says what it says to the photograph to {same} of "
            f"{count_text(len(rows), 'metamer')}."
        )
        yield drawing(study, f"metamers_{evaluator}", figure, caption, alt, table=rows, small=True)


# -------------------------------------------------------------------------------------- image types


def image_type_bars(study: Study) -> Iterator[Drawing]:
    """Draw RE-AN, RE-AI and their difference, in cortex and in the network.

    Parameters
    ----------
    study : Study
        As read.

    Yields
    ------
    Drawing
        One a system and quantity.
    """
    for system in ("brain", "network"):
        brain = system == "brain"
        everything = study.rows("image_types", system=system)
        for quantity in dict.fromkeys(everything["quantity"]):
            rows = everything[everything["quantity"] == quantity]
            if not brain:
                where = "layers, early to late"
            elif len(study.subjects) > 1:
                where = "ROIs, mean over subjects and each subject"
            else:
                where = f"ROIs, {_only(study)}"
            others = " and of ".join(
                OTHERS[pair] for pair in dict.fromkeys(rows["pair"]) if pair in OTHERS
            )
            figure = rsa_figures.image_type_bars(
                rows, system=system, quantity=quantity, stamp=study.stamp(brain=brain)
            )
            spoken = []
            for row in image_type_differences(study, system).to_dict("records"):
                if quantity == "similarity":
                    noise, interference = format_number(row["re_an"]), format_number(row["re_ai"])
                    spoken.append(f"{row['representation']}: RE–AN {noise}, RE–AI {interference}")
                else:
                    value, p = format_number(row["value"]), p_text(float(row["p_corrected"]))
                    spoken.append(
                        f"{row['representation']}: {value}, corrected p {p}, {row['follows']}"
                    )
            tested = rows[rows["subject"] == "mean"]
            if not brain or tested.empty:
                tested = rows
            caption = f"{QUANTITIES[quantity].format(others)}; {system}, {where}. {bounds(rows)}"
            tests = texts_of(tested, "p_method")
            if tests:
                caption += f" P: {'; '.join(tests)}."
            yield drawing(
                study,
                f"image_types_{system}_{quantity}",
                figure,
                caption,
                f"Bars. {'; '.join(spoken)}.",
                table=rows,
                brain=brain,
            )


OTHERS = {
    "RE-AN": "adversarial noise (RE–AN)",
    "RE-AI": "adversarial interference (RE–AI)",
}
"""Pair of image types to what the RDM of photographs is compared with."""

QUANTITIES = {
    "similarity": "Similarity of the RDM of photographs with that of {}",
    "difference": "RE–AI minus RE–AN: above 0 similarity follows perception, below 0 the network's "
    "decision",
}
"""Quantity to what its bars show; the kinds compared take the place of the braces."""


# --------------------------------------------------------------------------------- layers and areas


def layer_rows(study: Study) -> pd.DataFrame:
    """Select the similarities of layers and regions on regular images.

    Parameters
    ----------
    study : Study
        As read.

    Returns
    -------
    pandas.DataFrame
        Empty where no layers were compared with regions.
    """
    rows = study.rows("layer_roi")
    return rows[rows["kind"] == "RE"] if "kind" in rows.columns else rows


def layer_matrices(study: Study) -> Iterator[Drawing]:
    """Draw the similarity of each layer and each region.

    Parameters
    ----------
    study : Study
        As read.

    Yields
    ------
    Drawing
        The matrices.
    """
    rows = layer_rows(study)
    figure = rsa_figures.layer_roi_panels(rows, stamp=study.brain_stamp)
    who, matrices = _only(study), "One matrix."
    if len(study.subjects) > 1:
        who = "mean and each subject"
        matrices = "One matrix for the mean over subjects and one a subject."
    caption = (
        f"Similarity of each layer's RDM with each ROI's, regular images, {who}. {bounds(rows)}"
    )
    alt = f"{matrices} {_best_text(study)}".strip()
    yield drawing(study, "layer_roi", figure, caption, alt, table=rows, brain=True)


def _best_text(study: Study) -> str:
    rows = over_subjects(study.rows("best_layer"))
    parts = []
    for row in rows.to_dict("records"):
        parts.append(f"{row['roi']}: {row['layer']}, {format_number(row['score'])}")
    return f"Best layers, cross-validated. {'; '.join(parts)}." if parts else ""


def best_layers(study: Study) -> Iterator[Drawing]:
    """Draw the best layer of each region, naive and cross-validated.

    Parameters
    ----------
    study : Study
        As read.

    Yields
    ------
    Drawing
        The marks.
    """
    rows = study.rows("best_layer")
    figure = rsa_figures.best_layer_marks(rows, stamp=study.brain_stamp)
    caption = (
        "The best layer of each ROI: chosen and judged on the same photographs (naive), and chosen "
        "on some and judged on others (cross-validated). Noise alone makes the best layer differ "
        f"between ROIs: no order is read from it. {bounds(rows)}"
    )
    alt = _best_text(study) or "Marks."
    yield drawing(study, "best_layer", figure, caption, alt, table=rows, brain=True)


def weighted_layers(study: Study) -> Iterator[Drawing]:
    """Draw weighted layers beside the best layer and the average, and their differences.

    Parameters
    ----------
    study : Study
        As read.

    Yields
    ------
    Drawing
        The marks.
    """
    rows, differences = study.rows("weighted"), study.rows("weighted_difference")
    has_differences = len(differences) > 0
    figure = rsa_figures.model_marks(
        rows, differences if has_differences else None, stamp=study.brain_stamp
    )
    caption = (
        "Weighted combination of layers, best single layer and average of all layers, "
        f"cross-validated alike; below, their paired differences. {bounds(rows)}"
    )
    scores = []
    for row in over_subjects(rows).to_dict("records"):
        scores.append(f"{row['roi']} {row['model']}: {format_number(row['score'])}")
    parts = [rows.assign(what=rows["model"], value=rows["score"])]
    if has_differences:
        parts.append(
            differences.assign(what=differences["contrast"], value=differences["difference"])
        )
    columns = ["subject", "roi", "what", "value", "ci_low", "ci_high", "p", "q", "family"]
    numbers = pd.concat([part[columns] for part in parts], ignore_index=True)
    alt = f"Marks. {'; '.join(scores)}."
    yield drawing(study, "weighted", figure, caption, alt, table=numbers, brain=True)


def preferred_layers(study: Study) -> Iterator[Drawing]:
    """Draw which layer each region prefers, early to late regions.

    Parameters
    ----------
    study : Study
        As read.

    Yields
    ------
    Drawing
        The lines.
    """
    rows = study.rows("hierarchy")
    layers = list(dict.fromkeys(study.rows("layer_roi")["layer"]))
    figure = rsa_figures.hierarchy_lines(rows, layers=layers, stamp=study.brain_stamp)
    over = rows[rows["subject"] == "combined"]
    lines, described = _only(study), rows
    if len(over):
        lines, described = "one line a subject, the thick one their mean", over
    slopes = []
    for row in rows.to_dict("records"):
        value = format_number(float(row["value"]))
        slopes.append(f"{row['subject']}: {value} {row['statistic']}")
    caption = (
        f"Which layer each ROI prefers, {lines}. The test is of the slope over subjects, which an "
        f"ROI's noise does not tilt. {bounds(described)}"
    )
    left_out = names_in(over["left_out"]) if "left_out" in over else []
    if left_out:
        caption += (
            " Left out, because the subjects do not agree there above chance: "
            f"{', '.join(left_out)}."
        )
    alt = f"Lines. {'; '.join(slopes)}."
    yield drawing(study, "hierarchy", figure, caption, alt, table=rows, brain=True)


# ----------------------------------------------------------------------------------------- encoding


def encoding_lines(study: Study) -> Iterator[Drawing]:
    """Draw how well layers predict voxels, for each kind of test image.

    Parameters
    ----------
    study : Study
        As read.

    Yields
    ------
    Drawing
        The lines.
    """
    rows = study.rows("encoding")
    figure = figures.encoding_bars(rows, stamp=study.brain_stamp)
    caption = (
        "Correlation of measured and predicted voxel responses; models trained on regular images"
    )
    schemes = texts_of(rows, "scheme")
    if schemes:
        caption += f" ({'; '.join(schemes)})"
    caption += f". {whose(study).capitalize()}"
    if len(study.subjects) > 1:
        caption += "; dots are subjects"
    caption += f". {bounds(rows)}"
    answer = encoding_answer(study)
    alt = "No finite values." if answer is None else answer.number
    yield drawing(study, "encoding", figure, caption, alt, table=rows, brain=True)


# ---------------------------------------------------------------------------------------- the table


FIGURES: dict[str, FigureEntry[Study]] = {
    "answer": FigureEntry(
        section="answer",
        draw=answer_charts,
    ),
    "stimuli": FigureEntry(
        section="stimuli",
        draw=stimulus_sheet,
        applies=lambda study: study.stimuli is not None,
    ),
    "metamers": FigureEntry(
        section="metamers",
        draw=metamer_sheets,
        applies=lambda study: len(study.metamers) > 0,
    ),
    **{
        key: FigureEntry(section=key, draw=partial(sheets, key=key), applies=_has(key))
        for key in GENERATED
    },
    "image_types": FigureEntry(
        section="image-types",
        draw=image_type_bars,
    ),
    "layer_roi": FigureEntry(
        section="layer-roi",
        draw=layer_matrices,
        applies=lambda study: len(layer_rows(study)) > 0,
    ),
    "best_layer": FigureEntry(
        section="layer-roi",
        draw=best_layers,
        applies=_has("best_layer"),
    ),
    "weighted": FigureEntry(
        section="layer-roi",
        draw=weighted_layers,
        applies=_has("weighted"),
    ),
    "hierarchy": FigureEntry(
        section="layer-roi",
        draw=preferred_layers,
        applies=_has("hierarchy"),
    ),
    "rdms": FigureEntry(
        section="rdms",
        draw=rdm_maps,
    ),
    "places": FigureEntry(
        section="places",
        draw=arrangements,
        applies=lambda study: study.stimuli is not None,
    ),
    "encoding": FigureEntry(
        section="encoding",
        draw=encoding_lines,
        applies=_has("encoding"),
    ),
}
"""The figures of a study's page, in order; section ``answer`` is the first screen."""

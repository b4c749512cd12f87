"""The answers of a study in sentences.

They say what the tests of its tables say, and no more than the tables hold.
"""

from __future__ import annotations

import collections

import numpy as np
import pandas as pd

from neurometamer.errors import count_text, name_ids
from neurometamer.figures.style import (
    PAIRS,
    format_number,
    order_representations,
    p_text,
    probability_text,
)
from neurometamer.figures.tables import are_true, is_true
from neurometamer.report.layer_findings import (
    encoding_answer,
    hierarchy_answer,
    layer_answer,
    value_and_interval,
)
from neurometamer.report.page import Answer, Grid, text_grid
from neurometamer.report.read_study import ALPHA, Study, texts_of
from neurometamer.rsa.image_types.options import INTERVALS


def answers(study: Study) -> list[Answer]:
    """Put into sentences what the tables say; nothing is claimed without its test.

    Parameters
    ----------
    study : Study
        As read.

    Returns
    -------
    list of Answer
        One a question that the study's tables can answer.
    """
    makers = (
        network_answer,
        brain_answer,
        layer_answer,
        hierarchy_answer,
        encoding_answer,
        metamer_answer,
        checks_answer,
    )
    found = [make(study) for make in makers]
    return [answer for answer in found if answer is not None]


# ------------------------------------------------------------------------- RE-AN, RE-AI, difference


def image_type_differences(study: Study, system: str) -> pd.DataFrame:
    """Put the similarities of each place beside their difference and its test.

    Parameters
    ----------
    study : Study
        As read.
    system : str
        ``"network"`` or ``"brain"``.

    Returns
    -------
    pandas.DataFrame
        The rows of image_types.csv with the difference, over subjects where there are several, and
        the columns re_an and re_ai.
    """
    rows = _over_subjects_or_single(study.rows("image_types", system=system))
    differences = rows[rows["quantity"] == "difference"].drop_duplicates("representation")
    similar = rows[rows["quantity"] == "similarity"].drop_duplicates(["representation", "pair"])
    places = order_representations(differences["representation"])
    differences = (
        differences.set_index("representation", drop=False).loc[places].reset_index(drop=True)
    )
    wide = similar.pivot(
        index="representation",
        columns="pair",
        values="value",
    )
    wide = wide.reindex(index=places, columns=list(PAIRS))
    return differences.assign(
        re_an=wide["RE-AN"].to_numpy(dtype=float),
        re_ai=wide["RE-AI"].to_numpy(dtype=float),
    )


def _over_subjects_or_single(rows: pd.DataFrame) -> pd.DataFrame:
    """Take the rows over subjects, and those of subjects for places that have none."""
    is_mean = rows["subject"] == "mean"
    has_mean = rows["representation"].isin(rows["representation"][is_mean])
    return rows[is_mean | ~has_mean]


def correction_text(rows: pd.DataFrame) -> str:
    """Name the correction for many tests and its family.

    Parameters
    ----------
    rows : pandas.DataFrame
        Columns subject, pair, correction, family, p and p_corrected.

    Returns
    -------
    str
        E.g. ``"corrected (fdr) over 5 ROIs"``; where each pair has one test, that nothing was
        corrected.
    """
    single = rows.groupby(["subject", "pair"]).size().max() == 1
    if single and rows["p"].equals(rows["p_corrected"]):
        return "not corrected, as there is one place"
    how, families = ", ".join(texts_of(rows, "correction")), " or ".join(texts_of(rows, "family"))
    if how == "none":
        return f"not corrected; family: {families}"
    return f"corrected ({how}) over {families}"


def interval_notes(study: Study) -> list[str]:
    """Say of each kind of interval in image_types.csv what it covers.

    Parameters
    ----------
    study : Study
        As read.

    Returns
    -------
    list of str
        A sentence each.
    """
    notes = []
    for name in texts_of(study.rows("image_types"), "interval"):
        if name in INTERVALS and name != "none":
            notes.append(f"Interval “{name}”: {INTERVALS[name]}.")
    return notes


def _kind_grid(rows: pd.DataFrame, places: str, caption: str) -> Grid:
    cells = []
    for row in rows.to_dict("records"):
        interval = value_and_interval(row, "value")
        cells.append(
            [row["representation"], interval, probability_text(row["p_corrected"]), row["follows"]]
        )
    columns = (places, "RE–AI minus RE–AN (interval)", "p, corr.", "follows")
    return text_grid(columns, cells, caption, "tables/image_types.csv")


def fooling(study: Study) -> str:
    """Name the images of adversarial interference in a sentence, by whom they fool.

    Parameters
    ----------
    study : Study
        As read.

    Returns
    -------
    str
        ``"an image that fools the network"`` where all of them were made here and met their
        criterion; else what they were made for.
    """
    if study.stimuli is None:
        return "an image made to fool the network"
    table = study.stimuli.table
    rows = table[table["kind"] == "AI"]
    names = set(texts_of(rows, "model"))
    whom = "the network"
    if not names <= {str(study.section("model").get("name", ""))}:
        whom = " and ".join(sorted(names))
    if "success" in rows.columns and len(rows) and rows["success"].map(is_true).all():
        return f"an image that fools {whom}"
    return f"an image made to fool {whom}"


def headline(study: Study, rows: pd.DataFrame, places: str, system: str = "") -> str:
    """Say in plain words in how many places interference, or noise, is nearer to the photographs.

    Parameters
    ----------
    study : Study
        As read.
    rows : pandas.DataFrame
        Rows of `image_type_differences`, at least one.
    places : str
        What one of them is called.
    system : str
        What the places belong to, e.g. ``"of the simulated cortex"``; may be empty.

    Returns
    -------
    str
        A sentence that counts tests.
    """
    of = f" {system}" if system else ""
    image = fooling(study)
    nearer = f"{image} is still nearer to its photograph than noise with the photograph's name"
    counts = collections.Counter(rows["follows"])
    if counts["not tested"] == len(rows):
        return f"Not tested in {count_text(len(rows), places)}{of}."
    if len(rows) == 1:
        single = {
            "perception": nearer,
            "decision": f"noise with a photograph's name is nearer to the photograph than {image}",
            "undecided": f"it is undecided whether {nearer}",
        }
        return f"In {rows['representation'].iloc[0]}{of} {single[rows['follows'].iloc[0]]}."
    rest = [f"in {counts['decision'] or 'none'} it is the reverse"]
    if counts["undecided"]:
        rest.append(f"in {counts['undecided']} it is undecided")
    return f"In {counts['perception']} of {len(rows)} {places}s{of} {nearer}; {', '.join(rest)}."


_DEFINITION = (
    "Nearness is similarity of geometry: the RDM of the images that fool the network (adversarial "
    "interference, AI) "
    "resembles that of the photographs (RE) more than the RDM of adversarial noise (AN) does. "
)


def _kind_text(rows: pd.DataFrame) -> str:
    """Say what was counted, by which interval and which p over which family."""
    if (rows["follows"] == "not tested").all():
        return "The differences were not tested: the table has no interval or no p of them."
    interval = ", ".join(dict.fromkeys(rows["interval"].astype(str)))
    text = (
        "Counted as perception (RE–AI above RE–AN) or decision (below) where the interval of the "
        f"difference (“{interval}”) excludes 0 and its p, two-sided, {correction_text(rows)}, is "
        "below .05."
    )
    if interval == "subsample":
        text += " This interval ignores the choice of images."
    return text


def _above_chance(study: Study, system: str, places: str) -> str:
    """Count the similarities that permuted labels do not reach."""
    rows = study.rows("image_types", system=system, quantity="similarity")
    rows = _over_subjects_or_single(rows)
    tested = rows[np.isfinite(rows["p_corrected"].astype(float))]
    if tested.empty:
        return ""
    parts = []
    for pair, name in PAIRS.items():
        part = tested[tested["pair"] == pair]
        if len(part):
            above = int((part["p_corrected"] < ALPHA).sum())
            parts.append(f"{name} in {above} of {count_text(len(part), places)}")
    return f" Above permuted labels (one-sided, {correction_text(tested)}): {', '.join(parts)}."


def network_answer(study: Study) -> Answer | None:
    """Say whether the network's layers follow perception or its decision.

    Parameters
    ----------
    study : Study
        As read.

    Returns
    -------
    Answer or None
        None where no kinds of images were compared.
    """
    rows = image_type_differences(study, "network")
    if rows.empty:
        return _similar_answer(study, "network")
    parts = [
        _DEFINITION,
        _kind_text(rows),
        _above_chance(study, "network", "layer"),
        _trend_text(study),
    ]
    return Answer(
        title="In the network: does similarity follow what people see, or the network's decision?",
        number=headline(study, rows, "layer"),
        text="".join(parts),
        grid=_kind_grid(rows, "layer", "Layers of the network"),
        headline=True,
    )


def similar_places(study: Study, system: str) -> pd.DataFrame:
    """Give the similarity of photographs and one other kind of images.

    This is for studies that show only that kind.

    Parameters
    ----------
    study : Study
        As read.
    system : str
        ``"network"`` or ``"brain"``.

    Returns
    -------
    pandas.DataFrame
        Rows of image_types.csv, over subjects where there are several, in the order of figures, and
        the column follows: ``above chance``, ``not above chance`` (corrected p) or ``not tested``.
        Empty where there is a difference.
    """
    rows = _over_subjects_or_single(study.rows("image_types", system=system))
    if rows.empty or (rows["quantity"] == "difference").any():
        return rows.iloc[:0]
    rows = rows.drop_duplicates("representation").set_index("representation", drop=False)
    rows = rows.loc[order_representations(rows["representation"])].reset_index(drop=True)
    p = rows["p_corrected"].astype(float)
    said = pd.Series("not above chance", index=rows.index)
    said[p < ALPHA] = "above chance"
    said[p.isna()] = "not tested"
    return rows.assign(follows=said)


def _similar_answer(study: Study, system: str) -> Answer | None:
    rows = similar_places(study, system)
    if rows.empty:
        return None
    noun, title, of = "layer", "In the network: are these images near their photographs?", ""
    trends = _trend_text(study)
    if system == "brain":
        noun, title, of = (
            "region",
            "In cortex: are these images near their photographs?",
            _cortex(study),
        )
        trends = ""
    first = rows["pair"].iloc[0]
    pair = PAIRS.get(first, first)
    n_places = count_text(len(rows), noun)
    number = f"Not tested in {n_places}{of}."
    if (rows["follows"] != "not tested").any():
        image = fooling(study) if first == "RE-AI" else "noise with a photograph's name"
        above = int((rows["follows"] == "above chance").sum())
        number = f"In {above} of {n_places}{of} {image} is near its photograph, beyond chance."
    cells = []
    for row in rows.to_dict("records"):
        interval = value_and_interval(row, "value")
        cells.append([row["representation"], interval, probability_text(row["p_corrected"])])
    columns = (noun, f"{pair} (interval)", "p, corr.")
    return Answer(
        title=title,
        number=number,
        text="Nearness is similarity of geometry: that of the RDM of these images with that "
        f"of the photographs ({pair}). Chance is what permuted labels reach; p one-sided, "
        f"{correction_text(rows)}.{trends}",
        grid=text_grid(columns, cells, "Similarity", "tables/image_types.csv"),
        headline=True,
    )


def _cortex(study: Study) -> str:
    return " of the simulated cortex" if study.simulated else " of cortex"


def _trend_text(study: Study) -> str:
    rows = study.rows("trends", test="Mann-Kendall")
    parts = []
    for row in rows.to_dict("records"):
        p, effect = float(row["p"]), float(row["effect"])
        said = "shows no trend"
        if p < ALPHA:
            said = "rises" if effect > 0 else "falls"
        pair = PAIRS.get(row["pair"], row["pair"])
        parts.append(f"{pair} {said} (tau {format_number(effect)}, p {p_text(p)})")
    if not parts:
        return ""
    return f" Over the layers (Mann–Kendall, uncorrected): {', '.join(parts)}."


def brain_answer(study: Study) -> Answer | None:
    """Say whether the regions follow perception or the network's decision.

    Parameters
    ----------
    study : Study
        As read.

    Returns
    -------
    Answer or None
        None where no kinds of images were compared.
    """
    rows = image_type_differences(study, "brain")
    if rows.empty:
        return _similar_answer(study, "brain")
    cortex = "In the simulated cortex" if study.simulated else "In cortex"
    parts = []
    if (rows["subject"] == "mean").any():
        parts.append(f"Mean over {len(study.subjects)} subjects. ")
    if image_type_differences(study, "network").empty:
        parts.append(_DEFINITION)
    parts += [
        _kind_text(rows),
        _above_chance(study, "brain", "ROI"),
    ]
    single = study.rows("image_types", system="brain", quantity="difference")
    single = single[single["subject"] != "mean"]
    tested = np.isfinite(single["p_corrected"].astype(float)).any()
    if single["subject"].nunique() > 1 and tested:
        counts = collections.Counter(single["follows"])
        parts.append(
            f" Subjects alone ({correction_text(single)}): perception in {counts['perception']}, "
            f"decision in {counts['decision']} of {len(single)} tests."
        )
    return Answer(
        title=f"{cortex}: does similarity follow what people see, or the network's decision?",
        number=headline(study, rows, "region", _cortex(study).strip()),
        text="".join(parts),
        grid=_kind_grid(rows, "ROI", "Regions of the cortex"),
        headline=True,
    )


# -------------------------------------------------------------------------------- images and checks


def metamer_answer(study: Study) -> Answer | None:
    """Count the metamers in which a network that took no part sees what it sees in the photograph.

    Parameters
    ----------
    study : Study
        As read.

    Returns
    -------
    Answer or None
        None where no metamers were judged.
    """
    rows = study.rows("metamers")
    if rows.empty:
        return None
    counts, cells = [], []
    for (evaluator, name), part in rows.groupby(["evaluator", "set"], sort=False):
        same = int(part["same_class"].map(is_true).sum())
        counts.append(f"{same} of {count_text(len(part), 'metamer')} of {name}")
        probability = probability_text(part["p"].mean())
        cells.append([str(name), str(evaluator), f"{same} of {len(part)}", probability])
    evaluators = name_ids(dict.fromkeys(rows["evaluator"]))
    columns = ("made for", "evaluator", "gets the photograph's class", "mean p(photograph's class)")
    return Answer(
        title="Metamers: does a network that had no part see in them what it sees in the "
        "photograph?",
        number=f"{evaluators} does in {', in '.join(counts)}.",
        text="The evaluator's first class of metamer and photograph, on the saved 8-bit PNG: a "
        "count, "
        "not a test.",
        grid=text_grid(columns, cells, "Metamers and evaluators", "tables/metamers.csv"),
    )


def checks_answer(study: Study) -> Answer | None:
    """Say whether the images and, for a simulation, the analysis did what they should.

    All other results rest on this.

    Parameters
    ----------
    study : Study
        As read.

    Returns
    -------
    Answer or None
        None where nothing was made or planted here.
    """
    numbers, texts = [], []
    title = "Did the images reach their criterion?"
    counts = success_rows(study)
    if counts:
        met = ", ".join(f"{kind} {on_png}" for kind, _, _, on_png, *_ in counts)
        numbers.append(f"{met} images")
        texts.append("Images that meet their criterion are counted on the saved 8-bit PNG.")
    rows = study.rows("recovery")
    if len(rows):
        title = "Did the images reach their criterion, and does the analysis find what was planted?"
        passed = are_true(rows["pass"])
        numbers.append(f"{int(passed.sum())} of {count_text(len(rows), 'planted fact')}")
        texts.append("Each planted fact has a criterion of its own in the table of planted truth.")
        if not passed.all():
            texts.append(f"Not found: {name_ids(rows['what'][~passed])}.")
    if not numbers:
        return None
    return Answer(
        title=title,
        number="; ".join(numbers),
        text=" ".join(texts),
    )


def success_rows(study: Study) -> list[list[str]]:
    """Count the images that reached their criterion.

    Parameters
    ----------
    study : Study
        As read.

    Returns
    -------
    list of list of str
        A row each for AN and AI: kind, criterion, met by the float image, met by the saved PNG,
        lowest and median confidence on the PNG, median steps. Empty for images that were not made
        here.
    """
    if study.stimuli is None or "success" not in study.stimuli.table.columns:
        return []
    table = study.stimuli.table
    counts = []
    for kind in ("AN", "AI"):
        rows = table[table["kind"] == kind]
        if rows["success"].isna().all():
            continue
        numbers = {}
        for name in ("confidence_float", "confidence_png", "steps"):
            numbers[name] = pd.Series(dtype=float)
            if name in rows.columns:
                numbers[name] = pd.to_numeric(rows[name], errors="coerce").dropna()
        as_float, as_png, steps = numbers.values()
        sections = {
            "AN": "noise",
            "AI": "interference",
        }
        criterion = study.settings(sections[kind]).get("confidence")
        if study.settings("images").get("ready") or not isinstance(criterion, (int, float)):
            criterion = None  # of images that the study did not make
        wanted = met = ends = "–"
        if criterion is not None:
            wanted = f"p ≥ {format_number(criterion)}"
            if len(as_float):
                met = f"{int((as_float >= criterion).sum())} of {len(rows)}"
        if len(as_png):
            ends = f"{probability_text(as_png.min())} / {probability_text(as_png.median())}"
        counts.append(
            [
                kind,
                wanted,
                met,
                f"{int(are_true(rows['success']).sum())} of {len(rows)}",
                ends,
                f"{steps.median():g}" if len(steps) else "–",
            ]
        )
    return counts

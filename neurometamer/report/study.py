"""One HTML file from a study folder.

Nothing is computed here but counts and means of what the tables hold (and, for figures, mean RDMs
and the places of stimuli), so the page can say no more than they do. The page holds its figures,
loads nothing, and needs no JavaScript.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from neurometamer.arguments import checked
from neurometamer.errors import name_ids
from neurometamer.figures import study as figures
from neurometamer.figures.style import count_text
from neurometamer.report.findings import answers, interval_notes, is_true, success_rows
from neurometamer.report.layer_findings import encoding_answer, scheme_note, whose
from neurometamer.report.lead import lead_charts, lead_examples
from neurometamer.report.methods import cited_works, methods_text
from neurometamer.report.page import (
    Grid,
    Lead,
    Picture,
    Section,
    borrow_figure,
    flat_settings,
    folded_grid,
    probability_text,
    setting_text,
    table_grid,
    write_page,
    write_sources,
)
from neurometamer.report.read_study import LOCK, TABLES, Study, read_study
from neurometamer.report.study_rsa import (
    bounds,
    image_types_section,
    layers_section,
    picture,
    places_section,
    rdms_section,
    sheet_order,
    titled,
)
from neurometamer.resume import alone_in

NAMES = {"AN": "adversarial noise (AN)", "AI": "adversarial interference (AI)"}
"""Kind of image to its name in a sentence."""


def _stimuli_section(study: Study) -> Section | None:
    if study.stimuli is None:
        return None
    order = sheet_order(study.stimuli.table)
    table = study.stimuli.table.iloc[order].reset_index(drop=True)
    n_all, limit = study.n_photographs, 16
    images = study.stimuli.select(ids=list(table["id"])).images
    across = max(2, 6 // max(1, len(study.kinds)))
    figure = figures.stimulus_sheet(
        images, table, limit=limit, blocks=across, stamp=study.network_stamp
    )
    rest = (
        f" {limit} of {n_all} photographs are shown; the others are in stimuli/png."
        if n_all > limit
        else ""
    )
    made = [name for kind, name in NAMES.items() if kind in study.kinds]
    content = (
        f"Photographs (RE), and {' and '.join(made)} made from them" if made else "Photographs"
    )
    judged_text = ""
    if "top1_name" in table.columns and table["top1_name"].notna().any():
        # The network whose classes the table holds.
        names = (
            list(dict.fromkeys(table["model"].dropna().astype(str)))
            if "model" in table.columns
            else []
        )
        speaker = " and ".join(names) or "the network"
        judged_text = (
            f" Under each image: the first class of {speaker} and its confidence on the PNG."
        )
    caption = (
        f"{content}, as the saved 8-bit PNG holds them; compressed on this page. n = "
        f"{count_text(n_all, 'photograph')}, in the order of all figures (by category, then "
        f"name).{judged_text}{rest}"
    )
    shown = count_text(min(n_all, limit), "photograph")
    alt = (
        f"Sheet of {shown}{' and the images made from them' if made else ''}. The same facts are "
        "in stimuli.csv."
    )
    grids = [_success_grid(study, counts)] if (counts := success_rows(study)) else []
    sheet = picture(study, "stimuli", figure, caption, alt, table=_sheet_numbers(table), small=True)
    return Section(key="stimuli", title="Stimuli", pictures=[sheet], grids=grids)


def _success_grid(study: Study, counts: Sequence[Sequence[str]]) -> Grid:
    """Put the counts of successes on the page, without the columns that nothing is known of."""
    names = (
        "kind",
        "criterion",
        "met by the float image",
        "met by the saved PNG",
        "confidence on the PNG, lowest / median",
        "steps, median",
    )
    known = [place for place, column in enumerate(zip(*counts)) if set(column) != {"–"}]
    rows = []
    for row in counts:
        rows.append([row[place] for place in known])
    return Grid(
        caption=titled("Images that reached their criterion", study.network_stamp),
        columns=[names[place] for place in known],
        rows=rows,
        n_rows=len(counts),
        source="stimuli/stimuli.csv",
    )


def _sheet_numbers(table: pd.DataFrame) -> pd.DataFrame:
    names = (
        "id",
        "kind",
        "reference_id",
        "category",
        "top1_name",
        "confidence_png",
        "target_name",
        "success",
    )
    return table[[name for name in names if name in table.columns]]


def _transfer_section(study: Study) -> Section | None:
    """Show what other networks say to the same files; None where none was asked."""
    rows = study.rows("transfer")
    name = str(study.section("model").get("name", ""))
    if (rows["judge"] == name).all():
        return None
    cells = []
    for row in rows.to_dict("records"):
        target, same = (
            f"{round(row[key] * row['n'])} of {row['n']}"
            for key in ("says_target", "says_as_photograph")
        )
        judge = f"{row['judge']} (made for it)" if row["judge"] == name else row["judge"]
        cells.append(
            [judge, row["kind"], target, probability_text(row["target_probability"]), same]
        )
    text = (
        "The saved PNG files shown to each network through its own preprocessing. A network “says” "
        "its first class. The target is the class that the image was made for; the last column "
        "counts images that get the class which the same network gives to the photograph they come "
        "from."
    )
    kinds = " and ".join(dict.fromkeys(rows["kind"]))
    grid = Grid(
        caption=titled(f"What networks say to the {kinds} images", study.network_stamp),
        columns=(
            "network",
            "kind",
            "says the target",
            "mean p(target)",
            "says what it says to the photograph",
        ),
        rows=cells,
        n_rows=len(cells),
        source="tables/transfer.csv",
    )
    return Section(
        key="transfer", title="Do other networks see the same?", text=[text], grids=[grid]
    )


def _metamer_section(study: Study) -> Section | None:
    """Show metamers of one network beside those of a set, and what others say to them.

    The section is None where no metamers were made.
    """
    rows = study.rows("metamers")
    if rows.empty:
        return None
    cells = [
        _metamer_row(name, judge, part)
        for (judge, name), part in rows.groupby(["judge", "set"], sort=False)
    ]
    grid = Grid(
        caption=titled("What the networks and a judge that had no part say", study.network_stamp),
        columns=(
            "made for",
            "same class to all of them",
            "valid (16 classes, above the null)",
            "judge",
            "says the photograph's class",
            "has it among its first five",
            "mean p(photograph's class)",
        ),
        rows=cells,
        n_rows=len(cells),
        source="tables/metamers.csv",
    )
    judges = dict.fromkeys(rows["judge"]) if study.metamers else {}
    several = (
        rows["set"].nunique() > 1 or rows["set"].astype(str).str.contains("+", regex=False).any()
    )
    return Section(
        key="metamers",
        title="Metamers: same to one network, to several, to another?" if several else "Metamers",
        text=_metamer_text(study),
        pictures=[
            _metamer_picture(study, rows[rows["judge"] == judge], str(judge)) for judge in judges
        ],
        grids=[grid],
    )


def _metamer_row(name: object, judge: object, part: pd.DataFrame) -> list[str]:
    """Write one row of the table of metamers: those of one set, as one judge sees them."""
    valid = [is_true(value) for value in part["valid"].dropna()] if "valid" in part else []
    counts = [
        f"{int(part[key].map(is_true).sum())} of {len(part)}"
        for key in ("success", "same_class", "top5")
    ]
    above = f"{sum(valid)} of {len(valid)}" if valid else "–"
    return [
        str(name),
        counts[0],
        above,
        str(judge),
        counts[1],
        counts[2],
        probability_text(part["p"].mean()),
    ]


def _metamer_picture(study: Study, rows: pd.DataFrame, judge: str) -> Picture:
    shown = rows[
        rows["reference_id"].isin(
            rows["reference_id"].drop_duplicates().head(figures.MOST_METAMERS)
        )
    ]
    images: dict[str, np.ndarray] = {}
    photographs: dict[str, np.ndarray] = {}
    for name, stimuli in study.metamers.items():
        of_set = shown[shown["set"].astype(str) == name]
        names = [*of_set["id"].astype(str), *of_set["reference_id"].astype(str)]
        for stimulus in dict.fromkeys(
            stimulus_id for stimulus_id in names if stimulus_id in set(stimuli.ids)
        ):
            image = stimuli.images[stimuli.ids.index(stimulus)]
            images[f"{name} {stimulus}"] = image
            photographs.setdefault(stimulus, image)
    figure = figures.metamer_sheet(
        images, photographs, rows, judge=judge, stamp=study.network_stamp
    )
    caption = (
        "Photographs and their metamers, as the saved 8-bit PNG holds them; compressed on this "
        f"page. n = {count_text(rows['reference_id'].nunique(), 'photograph')}. {judge} saw them "
        "through its own preprocessing."
    )
    same = int(rows["same_class"].map(is_true).sum())
    alt = (
        f"{judge} says what it says to the photograph to {same} of "
        f"{count_text(len(rows), 'metamer')}."
    )
    return picture(study, f"metamers_{judge}", figure, caption, alt, table=rows, small=True)


def _metamer_text(study: Study) -> list[str]:
    """Say how the metamers were made, and what the preset's source leaves open."""
    chosen = study.section("settings").get("metamers") or {}
    steps = sorted(set(study.rows("metamers").get("steps", pd.Series(dtype=int))))
    changed = ", ".join(
        f"{name} = {value}" for name, value in (chosen.get("overrides") or {}).items()
    )
    text = [
        "A metamer starts as noise and is changed until each network it is made for responds to it "
        f"as to the photograph at one stage. Stage: {chosen.get('stage', '–')}; preset: "
        f"{chosen.get('preset', '–')}{f' with {changed}' if changed else ''}; mode: "
        f"{chosen.get('mode', '–')}; steps: {', '.join(map(str, steps)) or '–'}. The null: the "
        "likeness of responses to different photographs of this study.",
    ]
    rows = study.rows("metamers")
    if "image_prior" in rows:
        text.append(_prior_text(rows["image_prior"].astype(str)))
    if choices := study.section("metamers").get("open_choices"):
        text.append(
            f"What the preset leaves open, and what is chosen here: {'; '.join(map(str, choices))}."
        )
    return text


def _regions_section(study: Study) -> Section | None:
    """Show how large the regions are before and after the selection of voxels, and how reliable."""
    rows = study.rows("regions")
    if rows.empty:
        return None
    names = {
        "subject": "subject",
        "roi": "ROI",
        "n_mask": "voxels of the mask",
        "n_voxels": "usable",
        "n_selected": "selected",
        "reliability": "reliability, usable",
        "reliability_selected": "reliability, selected",
    }
    columns = [name for name in names if name in rows.columns]
    grid = table_grid(
        rows[columns].rename(columns=names),
        titled("Regions", study.brain_stamp),
        "tables/regions.csv",
        limit=60,
    )
    reasons = (
        list(dict.fromkeys(rows["reason"].dropna().astype(str))) if "reason" in rows.columns else []
    )
    methods = dict.fromkeys(rows["method"].dropna().astype(str)) if "method" in rows.columns else {}
    text = [f"Reliability: {'; '.join(methods)}."] if methods else []
    if (rows["n_selected"] < rows["n_voxels"]).any():
        text.append(
            "Voxels were selected by the same reliability, on regular images only, so that of the "
            "selected ones is too high as an estimate."
        )
    text += [f"Not measured: {reason.rstrip('.')}." for reason in reasons if reason]
    return Section(key="regions", title="Regions: size and reliability", text=text, grids=[grid])


def _prior_text(priors: pd.Series) -> str:
    """Say whether metamers look natural for another reason than what the networks respond to."""
    named = "; ".join(dict.fromkeys(prior for prior in priors if prior != "none"))
    if not named:
        return "No prior of natural images was used: steps were taken on pixels, without a penalty."
    return (
        f"A prior of natural images was used: {named}. It makes metamers easier to recognize "
        "whatever the network "
        'responds to; preset "pixels" has none.'
    )


def _encoding_section(study: Study) -> Section | None:
    title = "Voxel encoding"
    rows = study.rows("encoding")
    if rows.empty:
        return None
    figure = figures.encoding_bars(rows, stamp=study.brain_stamp)
    scheme = (
        "; ".join(dict.fromkeys(rows["scheme"].dropna().astype(str)))
        if "scheme" in rows.columns
        else ""
    )
    answer = encoding_answer(study)
    caption = (
        f"Correlation of measured and predicted voxel responses; models trained on regular images"
        f"{f' ({scheme})' if scheme else ''}. {whose(study).capitalize()}"
        f"{'; dots are subjects' if len(study.subjects) > 1 else ''}. {bounds(rows)}"
    )
    note = scheme_note(study)
    alt = answer.number if answer else "No finite values."
    return Section(
        key="encoding",
        title=title,
        text=[note] if note else [],
        pictures=[picture(study, "encoding", figure, caption, alt, table=rows, brain=True)],
    )


def _recovery_section(study: Study) -> Section | None:
    title = "Planted truth and what was found"
    rows = study.rows("recovery")
    if rows.empty:
        return None
    marked = rows.assign(
        **{"pass": ["✓ pass" if is_true(value) else "✗ fail" for value in rows["pass"]]}
    )
    names = [
        name for name in ("what", "planted", "found", "criterion", "pass") if name in marked.columns
    ]
    caption = titled("What the simulation put in and what the analysis found", study.brain_stamp)
    text = "The simulated cortex was read back through the same path as real data."
    return Section(
        key="recovery",
        title=title,
        text=[text],
        grids=[table_grid(marked[names], caption, "tables/recovery.csv", limit=10**6)],
    )


CAPTIONS = {
    "transfer": "Other networks",
    "metamers": "Metamers",
    "image_types": "RE–AN, RE–AI and their difference, with their tests",
    "regions": "Regions",
    "trends": "Trends over layers",
    "layer_roi": "Layers and ROIs",
    "best_layer": "Best layer of each ROI, cross-validated and naive",
    "weighted": "Weighted layers, best layer and average, cross-validated",
    "weighted_difference": "Differences of these models",
    "hierarchy": "Order of ROIs and preferred layers",
    "encoding": "Voxel encoding",
    "recovery": "Planted and found",
}
"""Of the tables, by name."""

OF_NETWORK = ("transfer", "metamers", "trends")
"""Tables that do not rest on the brain."""


def _all_tables(study: Study) -> list[Grid]:
    grids = []
    for name in TABLES:
        table = study.rows(name)
        if len(table):
            brain = name not in OF_NETWORK and (
                name != "image_types" or (table["system"] == "brain").any()
            )
            stamp = study.brain_stamp if brain else study.network_stamp
            grids.append(folded_grid(table, titled(CAPTIONS[name], stamp), f"tables/{name}.csv"))
    if study.stimuli is not None:
        table = study.stimuli.table.dropna(axis="columns", how="all")
        grids.append(
            folded_grid(table, titled("Stimuli", study.network_stamp), "stimuli/stimuli.csv")
        )
    return grids


def applied_settings(study: Study) -> dict[str, Any]:
    """Leave out the settings of steps that were not done.

    Measured data have no simulation, and given images no generator.

    Parameters
    ----------
    study : Study
        As read.

    Returns
    -------
    dict
        Section to settings.
    """
    settings = dict(study.section("settings"))
    parts: dict[str, Mapping[str, Any]] = {
        name: values if isinstance(values, Mapping) else {} for name, values in settings.items()
    }
    brain, images = parts.get("brain", {}), parts.get("images", {})
    unused = set()
    if images.get("ready"):
        unused |= {"noise", "interference"}
    if not parts.get("metamers", {}).get("sets"):
        unused.add("metamers")
    if not parts.get("transfer", {}).get("models"):
        unused.add("transfer")
    if not study.cortex:
        unused |= {"glm", "selection", "encoding", "brain"}
    if brain:
        own = {"simulated": "simulation", "bold": "subjects"}.get(str(brain.get("source")))
        settings["brain"] = {
            name: brain[name]
            for name in brain
            if name not in ("simulation", "subjects") or name == own
        }
    return {name: values for name, values in settings.items() if name not in unused}


def _settings(study: Study) -> list[Grid]:
    """List every setting that was used, and what else makes the result again.

    These are model, brain, seed, digests and versions.
    """
    # Nothing is said of a simulation for measured data.
    record = study.section("brain") if study.cortex else {}
    brain_record = {name: value for name, value in record.items() if name != "simulated" or value}
    parts: dict[str, tuple[str, object]] = {
        "settings": ("Settings", applied_settings(study)),
        "model": ("Network", study.section("model")),
        "brain": ("Brain", brain_record),
        "digests": ("Digests of the inputs", study.section("digests")),
        "versions": ("Versions", study.section("versions")),
        "seconds": ("Seconds a step took", study.section("seconds")),
    }
    grids = []
    for key, (caption, values) in parts.items():
        rows = [list(pair) for pair in flat_settings(values) if pair[0]]
        if key == "versions":
            more = [name for name in ("python", "machine") if name in study.provenance]
            rows += [[name, setting_text(study.provenance[name])] for name in more]
        if (
            key == "settings"
            and "seed" in study.provenance
            and not any(row[0] == "study.seed" for row in rows)
        ):
            rows.insert(0, ["seed", setting_text(study.provenance["seed"])])
        if rows:
            grids.append(
                Grid(caption=caption, columns=("name", "value"), rows=rows, n_rows=len(rows))
            )
    return grids


def _honesty(study: Study) -> list[tuple[str, str]]:
    """Say of each ingredient whether it is real."""
    parts = []
    if study.stimuli is not None:
        parts.append(("Images", _images_text(study)))
    model = study.section("model")
    name, weights = model.get("name", "the network"), model.get("weights", "")
    network = (
        f"{name} with random weights: it was never trained, so its numbers say what the "
        "architecture alone does."
        if study.network_stamp
        else f"{name}, trained weights{f' ({weights})' if weights else ''}: real activations."
    )
    parts.append(("Network", network))
    if study.simulated:
        parts.append(
            (
                "Brain",
                "Simulated, with known truth. No person was scanned; the brain numbers show that "
                "the pipeline finds what was planted and say nothing about human cortex.",
            )
        )
    elif study.cortex:
        parts.append(("Brain", "Measured BOLD given by the user; its quality is not judged here."))
    return parts


def _images_text(study: Study) -> str:
    images = study.section("settings").get("images")
    given = isinstance(images, Mapping) and bool(images.get("ready"))
    made = " and ".join(kind for kind in ("AN", "AI") if kind in study.kinds)
    if not made:
        return "Photographs."
    were = "were given, not made here" if given else "were computed for this network"
    return f"RE are photographs; {made} {were}. No person was asked what they show."


# -------------------------------------------------------------------------------------------- build


@checked
def build_report(folder: str | os.PathLike[str]) -> Path:
    """Draw the figures of a study and write its page.

    Parameters
    ----------
    folder : path-like
        A study folder. Read: ``provenance.json``, ``study.toml``, ``tables/*.csv``, ``stimuli/``,
        ``rdms/*.h5``. Written: ``figures/*.svg``, ``figures/*.png``, ``figures/*.csv`` (what each
        figure shows), ``methods.txt``, ``references.bib`` and ``report.html``. Parts that the study
        lacks are not on the page.

    Returns
    -------
    Path
        ``report.html``: self-contained, the same bytes for the same study.

    Raises
    ------
    InputError
        When the folder is missing, is not a study, holds a file that cannot be read, or another
        process works in it.

    Warns
    -----
    UserWarning
        When files are not as the study's steps wrote them; the page says so, too.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import pandas as pd
    >>> from neurometamer import build_report
    >>> rows = {"subject": "S1", "roi": "V1", "layer": ["early", "late"], "test": "RE"}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     (Path(folder) / "tables").mkdir()
    ...     table = pd.DataFrame({**rows, "r": [0.4, 0.2], "n": 12})
    ...     table.to_csv(Path(folder) / "tables" / "encoding.csv", index=False)
    ...     _ = (Path(folder) / "provenance.json").write_text("{}")
    ...     page = build_report(folder).read_text(encoding="utf-8")
    >>> "Voxel encoding" in page
    True
    """
    study = read_study(folder)
    if note := changed_note(study):
        warnings.warn(note, UserWarning, stacklevel=2)
    with alone_in(study.folder, LOCK):
        return _write_report(study)


def _write_report(study: Study) -> Path:
    """Write the page, its figures and the texts beside it."""
    sections = [section for make in SECTIONS if (section := make(study)) is not None]
    charts = lead_charts(study)
    if not charts:
        charts, sections = borrow_figure(sections, ("layer-roi", "places"))
    notes = study.provenance.get("notes") or []
    version = str(study.section("versions").get("neurometamer", ""))
    found_answers = answers(study)
    headlines = [
        answer.number for answer in found_answers if answer.headline or answer is found_answers[0]
    ]
    names = {"RE": "photographs (RE)", **NAMES}
    kinds_text = ", ".join(names[kind] for kind in study.kinds)
    weights = str(study.section("model").get("weights", ""))
    parts = [f"Weights: {weights}."] if weights else []
    if study.n_photographs:
        parts.append(f"{count_text(study.n_photographs, 'photograph')}.")
    if study.cortex and study.subjects:
        noun = "simulated subject" if study.simulated else "subject"
        parts.append(f"{count_text(len(study.subjects), noun)}: {', '.join(study.subjects)}.")
    lead = " ".join(parts)
    return write_page(
        study.folder / "report.html",
        "report.html",
        heading=_heading(study),
        kinds=kinds_text,
        lead=lead,
        stamps=_banner(study),
        first=Lead(
            headlines=headlines or [_NO_ANSWER], charts=charts, examples=lead_examples(study)
        ),
        answers=found_answers,
        bounds=_bounds_text(study),
        sections=sections,
        tables=_all_tables(study),
        settings=_settings(study),
        notes=[str(note) for note in ([notes] if isinstance(notes, str) else notes)],
        recipe=study.recipe,
        honesty=_honesty(study),
        **write_sources(study.folder, methods_text(study), cited_works(study), version),
    )


SECTIONS: tuple[Callable[[Study], Section | None], ...] = (
    _stimuli_section,
    _transfer_section,
    _metamer_section,
    image_types_section,
    _regions_section,
    layers_section,
    rdms_section,
    places_section,
    _encoding_section,
    _recovery_section,
)
"""The parts of the page in order; each gives None where the study lacks it."""


def _heading(study: Study) -> str:
    """Ask the question of the study."""
    name = str(study.section("model").get("name", "the network"))
    made = {"AN", "AI"} & set(study.kinds)
    if not study.cortex:
        return f"Which images does {name} treat as the same?"
    if made:
        return f"Do {name} and {study.cortex} treat the same images as the same?"
    return f"How alike are {name} and {study.cortex}?"


_NO_ANSWER = (
    "Nothing was compared in this study, so there is nothing to test; below is what was measured."
)


def _bounds_text(study: Study) -> str:
    """Say what the answers rest on, and what the paper found where the study asks its question."""
    parts = [
        "No sentence above goes without its test, or says that it is a count.",
        *interval_notes(study),
    ]
    differences = study.rows("image_types", quantity="difference")
    if len(differences):
        parts.append(
            "In Zhang et al. (2021), with measured cortex, RE–AI exceeded RE–AN in all 15 subject "
            "× ROI tests, and AlexNet showed the reverse only at its output."
        )
    return " ".join(parts)


def changed_note(study: Study) -> str:
    """Say which files are not as the study wrote them, and what to do.

    Parameters
    ----------
    study : Study
        As read.

    Returns
    -------
    str
        Empty where all are as they were, or where no step records tell.
    """
    words = {"changed": "not as its step wrote it", "missing": "gone"}
    plural = {"changed": "not as their steps wrote them", "missing": "gone"}
    parts = []
    for state in words:
        names = [name for name, change in study.changed.items() if change == state]
        if names:
            verb = f"is {words[state]}" if len(names) == 1 else f"are {plural[state]}"
            parts.append(f"{name_ids(names)} {verb}")
    if not parts:
        return ""
    return (
        f"{'; '.join(parts)}. The page shows what is there now, with its numbers and sentences. "
        "Run the study again with the same --out (neurometamer run, or demo): what was changed is "
        "made again."
    )


def _banner(study: Study) -> list[tuple[str, str]]:
    out = [("Changed after the study", note)] if (note := changed_note(study)) else []
    if study.simulated:
        out.append(
            (
                "Simulated cortex",
                "every brain number on this page comes from a simulation with known truth.",
            )
        )
    if study.network_stamp:
        out.append(
            (
                "Untrained network",
                "the weights are random; nothing here describes a trained network.",
            )
        )
    return out

"""One HTML file from a study folder.

Nothing is computed here but counts and means of what the tables hold (and, for figures, mean RDMs
and the places of stimuli), so the page can say no more than they do. The page holds its figures,
loads nothing, and needs no JavaScript.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from neurometamer.arguments import checked
from neurometamer.errors import count_text, name_ids
from neurometamer.figures.style import KIND_NAMES, probability_text
from neurometamer.figures.tables import is_true
from neurometamer.report.beta_findings import BETA_COLUMNS, betas_words
from neurometamer.report.disagreement import made_section
from neurometamer.report.findings import answers, interval_notes, success_rows
from neurometamer.report.layer_findings import scheme_note
from neurometamer.report.methods import selection_words, study_methods, study_works
from neurometamer.report.page import (
    Grid,
    Lead,
    PageContent,
    Section,
    borrow_figure,
    draw_figures,
    draw_sections,
    flat_settings,
    folded_grid,
    setting_text,
    table_grid,
    text_grid,
    write_page,
)
from neurometamer.report.read_study import LOCK, TABLES, Study, read_study, texts_of
from neurometamer.report.study_figures import FIGURES, lead_examples
from neurometamer.resume import alone_in


def _titled(caption: str, stamp: str) -> str:
    """Add what a table rests on to its caption; a stamp may be empty."""
    return f"{caption} · {stamp}" if stamp else caption


# ----------------------------------------------------------------------------------------- sections


def _stimuli_section(study: Study) -> Section:
    """Count the images that reached their criterion, where that is known."""
    counts = success_rows(study)
    if not counts:
        return Section(key="stimuli", title="Stimuli")
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
    grid = text_grid(
        [names[place] for place in known],
        rows,
        _titled("Images that reached their criterion", study.network_stamp),
        "stimuli/stimuli.csv",
    )
    return Section(
        key="stimuli",
        title="Stimuli",
        grids=[grid],
    )


def _transfer_section(study: Study) -> Section | None:
    """Show what other networks say to the same files; None where none was asked."""
    rows = study.rows("transfer")
    name = str(study.section("model").get("name", ""))
    if (rows["evaluator"] == name).all():
        return None
    cells = []
    for row in rows.to_dict("records"):
        evaluator = row["evaluator"]
        cells.append(
            [
                f"{evaluator} (made for it)" if evaluator == name else evaluator,
                row["kind"],
                f"{round(row['says_target'] * row['n'])} of {row['n']}",
                probability_text(row["target_probability"]),
                f"{round(row['says_as_photograph'] * row['n'])} of {row['n']}",
            ]
        )
    text = (
        "The saved PNG files shown to each network through its own preprocessing. A network “says” "
        "its first class. The target is the class that the image was made for; the last column "
        "counts images that get the class which the same network gives to the photograph they come "
        "from."
    )
    kinds = " and ".join(dict.fromkeys(rows["kind"]))
    columns = (
        "network",
        "kind",
        "says the target",
        "mean p(target)",
        "says what it says to the photograph",
    )
    caption = _titled(f"What networks say to the {kinds} images", study.network_stamp)
    return Section(
        key="transfer",
        title="Do other networks see the same?",
        text=[text],
        grids=[text_grid(columns, cells, caption, "tables/transfer.csv")],
    )


def _metamer_section(study: Study) -> Section | None:
    """Say what each evaluator says to the metamers of each set; None where none were made."""
    rows = study.rows("metamers")
    if rows.empty:
        return None
    cells = []
    for (evaluator, name), part in rows.groupby(["evaluator", "set"], sort=False):
        success, same_class, top5 = (
            f"{int(part[key].map(is_true).sum())} of {len(part)}"
            for key in ("success", "same_class", "top5")
        )
        valid = "–"
        if "valid" in part and part["valid"].notna().any():
            judged = part["valid"].dropna()
            valid = f"{sum(map(is_true, judged))} of {len(judged)}"
        probability = probability_text(part["p"].mean())
        cells.append([str(name), success, valid, str(evaluator), same_class, top5, probability])
    columns = (
        "made for",
        "same first class to all of them",
        "valid (same of 16 classes or, of other networks, of their own; above the null)",
        "evaluator",
        "says the photograph's class",
        "has it among its first five",
        "mean p(photograph's class)",
    )
    caption = _titled(
        "What the networks and an evaluator that had no part say", study.network_stamp
    )
    of_several = "n_networks" in rows and bool((rows["n_networks"] > 1).any())
    title = "Metamers"
    if of_several or rows["set"].nunique() > 1:
        title = "Metamers: same to one network, to several, to another?"
    return Section(
        key="metamers",
        title=title,
        text=_metamer_text(study),
        grids=[text_grid(columns, cells, caption, "tables/metamers.csv")],
    )


def _metamer_text(study: Study) -> list[str]:
    """Say how the metamers were made, and what the preset's source leaves open."""
    rows = study.rows("metamers")
    chosen = study.section("settings").get("metamers") or {}
    overrides = chosen.get("overrides") or {}
    preset = str(chosen.get("preset", "–"))
    if overrides:
        preset += f" with {', '.join(f'{name} = {value}' for name, value in overrides.items())}"
    steps = sorted(set(rows["steps"])) if "steps" in rows else []
    text = [
        "A metamer starts as noise and is changed until each network it is made for responds to it "
        f"as to the photograph at one stage. Stage: {chosen.get('stage', '–')}; preset: {preset}; "
        f"mode: {chosen.get('mode', '–')}; steps: {', '.join(map(str, steps)) or '–'}. The null: "
        "how similar the responses to different photographs of this study are.",
    ]
    if "image_prior" in rows:
        priors = rows["image_prior"].astype(str)
        named = "; ".join(dict.fromkeys(priors[priors != "none"]))
        if named:
            text.append(
                f"A prior of natural images was used: {named}. It makes metamers easier to "
                'recognize whatever the network responds to; preset "pixels" has none.'
            )
        else:
            text.append(
                "No prior of natural images was used: steps were taken on pixels, without a "
                "penalty."
            )
    choices = study.section("metamers").get("open_choices")
    if choices:
        text.append(
            f"What the preset leaves open, and what is chosen here: {'; '.join(map(str, choices))}."
        )
    return text


def _image_types_section(study: Study) -> Section | None:
    """Show RE-AN, RE-AI and their difference, with the trends over layers."""
    rows = study.rows("image_types")
    if not rows["system"].isin(["brain", "network"]).any():
        return None
    similar = study.rows("image_types", quantity="similarity")
    pairs = [pair.replace("-", "–") for pair in dict.fromkeys(similar["pair"])]
    trends = study.rows("trends")
    grids = []
    if len(trends):
        columns = ["pair", "test", "statistic", "effect", "p", "n"]
        caption = _titled("Trends over the layers", study.network_stamp)
        grids.append(table_grid(trends[columns], caption, "tables/trends.csv"))
    title = "RE–AN, RE–AI and their difference" if len(pairs) > 1 else "".join(pairs)
    return Section(
        key="image-types",
        title=title,
        grids=grids,
    )


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
        _titled("Regions", study.brain_stamp),
        "tables/regions.csv",
        limit=60,
    )
    text = []
    methods = texts_of(rows, "method")
    if methods:
        text.append(f"Reliability: {'; '.join(methods)}.")
    if (rows["n_selected"] < rows["n_voxels"]).any():
        text.append(
            f"Voxels were selected by {selection_words(study)}, so that the reliability of the "
            "selected ones is too high as an estimate."
        )
    for reason in texts_of(rows, "reason"):
        if reason:
            text.append(f"Not measured: {reason.rstrip('.')}.")
    grids = [grid]
    ceilings = study.rows("ceilings")
    if not ceilings.empty:
        known = [name for name in CEILING_COLUMNS if name in ceilings.columns]
        caption = _titled("Noise ceilings of the selected voxels, by image type", study.brain_stamp)
        shown = ceilings[known].rename(columns=CEILING_COLUMNS)
        grids.append(table_grid(shown, caption, "tables/ceilings.csv", limit=60))
        text.append(
            "No model predicts mean responses better than the noise ceiling (NC, % of variance, "
            "mean over voxels; r, its root; mean r, the mean of voxels' ceilings as correlations, "
            "too high where many have no signal); it is lower where an image type drives the "
            "voxels less, and around 0, also below, where none does."
        )
    betas = study.rows("betas")
    if not betas.empty:
        known = [name for name in BETA_COLUMNS if betas[name].notna().any()]
        shown = betas[known].rename(columns=BETA_COLUMNS)
        caption = _titled(CAPTIONS["betas"], study.brain_stamp)
        grids.append(table_grid(shown, caption, "tables/betas.csv", limit=60))
        text.append(betas_words(study))
    return Section(
        key="regions",
        title="Regions: size and reliability",
        text=text,
        grids=grids,
    )


CEILING_COLUMNS = {
    "subject": "subject",
    "roi": "ROI",
    "image_type": "images",
    "n_images": "number",
    "repeats": "presentations",
    "ncsnr_median": "ncsnr, median",
    "nc": "NC, %",
    "r": "r",
    "mean_r": "mean r",
    "split_half": "split-half, median",
    "pattern": "patterns",
}
"""Columns of the table of noise ceilings that the page shows, and what it calls them."""


def _recovery_section(study: Study) -> Section | None:
    rows = study.rows("recovery")
    if rows.empty:
        return None
    marks = ["✓ pass" if is_true(value) else "✗ fail" for value in rows["pass"]]
    marked = rows.assign(**{"pass": marks})
    names = ("what", "planted", "found", "criterion", "pass")
    grid = table_grid(
        marked[[name for name in names if name in marked.columns]],
        _titled("What the simulation put in and what the analysis found", study.brain_stamp),
        "tables/recovery.csv",
        limit=len(marked),
    )
    return Section(
        key="recovery",
        title="Planted truth and what was found",
        text=["The simulated cortex was read back through the same path as real data."],
        grids=[grid],
    )


SECTIONS: dict[str, Callable[[Study], Section | None]] = {
    "stimuli": _stimuli_section,
    "transfer": _transfer_section,
    "metamers": _metamer_section,
    "controversial": partial(made_section, key="controversial"),
    "divergent": partial(made_section, key="divergent"),
    "eigendistortion": partial(made_section, key="eigendistortion"),
    "image-types": _image_types_section,
    "regions": _regions_section,
    "layer-roi": lambda study: Section(key="layer-roi", title="Layers and regions"),
    "rdms": lambda study: Section(key="rdms", title="Representational dissimilarity"),
    "places": lambda study: Section(key="places", title="Which images are near which"),
    "encoding": lambda study: Section(
        key="encoding",
        title="Voxel encoding",
        text=list(filter(None, [scheme_note(study)])),
    ),
    "recovery": _recovery_section,
}
"""The words and tables of the parts of the page, in order; each gives None where the study lacks
it. Their figures are in `neurometamer.report.study_figures.FIGURES`."""


# ------------------------------------------------------------------------------ tables and settings


CAPTIONS = {
    "transfer": "Other networks",
    "metamers": "Metamers",
    "controversial": "Controversial images",
    "divergent": "Maximally different metamers",
    "eigendistortion": "Eigendistortions",
    "failures": "Images on which networks were to disagree that missed their criterion",
    "image_types": "RE–AN, RE–AI and their difference, with their tests",
    "betas": "Single-trial betas: what was chosen, and what it gained",
    "regions": "Regions",
    "ceilings": "Noise ceilings of regions, by image type",
    "trends": "Trends over layers",
    "layer_roi": "Layers and ROIs",
    "best_layer": "Best layer of each ROI, cross-validated and naive",
    "weighted": "Weighted layers, best layer and average, cross-validated",
    "weighted_difference": "Differences of these models",
    "hierarchy": "Order of ROIs and preferred layers",
    "encoding": "Voxel encoding",
    "recovery": "Planted and found",
}
"""Name of a table to its caption."""

OF_NETWORK = (
    "transfer",
    "metamers",
    "controversial",
    "divergent",
    "eigendistortion",
    "failures",
    "trends",
)
"""Tables that do not rest on the brain."""


def _all_tables(study: Study) -> list[Grid]:
    grids = []
    for name in TABLES:
        table = study.rows(name)
        if table.empty:
            continue
        brain = name not in OF_NETWORK
        if name == "image_types":
            brain = bool((table["system"] == "brain").any())
        caption = _titled(CAPTIONS[name], study.stamp(brain=brain))
        grids.append(folded_grid(table, caption, f"tables/{name}.csv"))
    if study.stimuli is not None:
        table = study.stimuli.table.dropna(axis="columns", how="all")
        caption = _titled("Stimuli", study.network_stamp)
        grids.append(folded_grid(table, caption, "stimuli/stimuli.csv"))
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
    unused = set()
    if study.settings("images").get("ready"):
        unused |= {"noise", "interference"}
    if not study.settings("metamers").get("sets"):
        unused.add("metamers")
    if not study.settings("transfer").get("models"):
        unused.add("transfer")
    lists = {"controversial": "pairs", "divergent": "pairs", "eigendistortion": "stages"}
    unused |= {name for name, key in lists.items() if not study.settings(name).get(key)}
    if not study.cortex:
        unused |= {"glm", "selection", "encoding", "brain"}
    brain = study.settings("brain")
    if brain and brain.get("source") == "patterns":
        unused.add("glm")
    applied = {}
    for name, values in study.section("settings").items():
        if name not in unused:
            applied[name] = values
    if brain and "brain" in applied:
        source = str(brain.get("source"))
        own = {
            "simulated": {"simulation"},
            "bold": {"subjects", "contrasts"},
            "patterns": {"subjects"},
            "bids": set(brain) - {"simulation"},
        }
        kept = {"source", *own.get(source, ())}
        applied["brain"] = {name: brain[name] for name in brain if name in kept}
    return applied


def _settings(study: Study) -> list[Grid]:
    """List every setting that was used, and what else makes the result again.

    These are model, brain, seed, digests and versions.
    """
    brain_record = dict(study.section("brain")) if study.cortex else {}
    if not brain_record.get("simulated"):
        # Nothing is said of a simulation for measured data.
        brain_record.pop("simulated", None)
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
            for name in ("python", "machine"):
                if name in study.provenance:
                    rows.append([name, setting_text(study.provenance[name])])
        if key == "settings" and "seed" in study.provenance:
            names = [name for name, _ in rows]
            if "study.seed" not in names:
                rows.insert(0, ["seed", setting_text(study.provenance["seed"])])
        if rows:
            grids.append(text_grid(("name", "value"), rows, caption))
    return grids


def _honesty(study: Study) -> list[tuple[str, str]]:
    """Say of each ingredient whether it is real."""
    parts = []
    if study.stimuli is not None:
        text = "Photographs."
        made = [kind for kind in ("AN", "AI") if kind in study.kinds]
        if made:
            given = study.settings("images").get("ready")
            were = "were given, not made here" if given else "were computed for this network"
            text = (
                f"RE are photographs; {' and '.join(made)} {were}. No person was asked what they "
                "show."
            )
        parts.append(("Images", text))
    model = study.section("model")
    name = model.get("name", "the network")
    if study.network_stamp:
        network = (
            f"{name} with random weights: it was never trained, so its numbers say what the "
            "architecture alone does."
        )
    else:
        weights = f" ({model['weights']})" if model.get("weights") else ""
        network = f"{name}, trained weights{weights}: real activations."
    parts.append(("Network", network))
    if study.simulated:
        brain = (
            "Simulated, with known truth. No person was scanned; the brain numbers show that "
            "the pipeline finds what was planted and say nothing about human cortex."
        )
        parts.append(("Brain", brain))
    elif study.cortex:
        parts.append(("Brain", "Measured BOLD given by the user; its quality is not judged here."))
    return parts


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
        parts = [section for make in SECTIONS.values() if (section := make(study)) is not None]
        sections = draw_sections(study.folder, parts, FIGURES, study)
        charts = draw_figures(study.folder, FIGURES, study, ["answer"])["answer"]
        if not charts:
            charts, sections = borrow_figure(sections, ("layer-roi", "places"))
        found_answers = answers(study)
        headlines = [found_answers[0].number] if found_answers else [NOTHING_COMPARED]
        headlines += [answer.number for answer in found_answers[1:] if answer.headline]
        name = str(study.section("model").get("name", "the network"))
        if not study.cortex:
            question = f"Which images does {name} treat as the same?"
        elif {"AN", "AI"} & set(study.kinds):
            question = f"Do {name} and {study.cortex} treat the same images as the same?"
        else:
            question = f"How alike are {name} and {study.cortex}?"
        content = PageContent(
            record=study.provenance,
            lead=_lead_text(study),
            stamps=_banner(study),
            first=Lead(headlines=headlines, charts=charts, examples=lead_examples(study)),
            answers=found_answers,
            sections=sections,
            tables=_all_tables(study),
            settings=_settings(study),
            methods=study_methods(study),
            works=study_works(study),
        )
        bounds = [
            "No sentence above goes without its test, or says that it is a count.",
            *interval_notes(study),
        ]
        if len(study.rows("image_types", quantity="difference")):
            bounds.append(
                "In Zhang et al. (2021), with measured cortex, RE–AI exceeded RE–AN in all 15 "
                "subject × ROI tests, and AlexNet showed the reverse only at its output."
            )
        return write_page(
            study.folder / "report.html",
            "report.html",
            content,
            heading=question,
            kinds=", ".join(KIND_NAMES[kind] for kind in study.kinds),
            bounds=" ".join(bounds),
            recipe=study.recipe,
            honesty=_honesty(study),
        )


NOTHING_COMPARED = (
    "Nothing was compared in this study, so there is nothing to test; below is what was measured."
)
"""Headline of a study without comparisons."""


def _lead_text(study: Study) -> str:
    """Name the weights and count photographs and subjects."""
    parts = []
    weights = study.section("model").get("weights", "")
    if weights:
        parts.append(f"Weights: {weights}.")
    if study.n_photographs:
        parts.append(f"{count_text(study.n_photographs, 'photograph')}.")
    if study.cortex and study.subjects:
        noun = "simulated subject" if study.simulated else "subject"
        parts.append(f"{count_text(len(study.subjects), noun)}: {', '.join(study.subjects)}.")
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
        Empty where all are as they were, or where no step records are kept.
    """
    words = {
        "changed": ("is not as its step wrote it", "are not as their steps wrote them"),
        "missing": ("is gone", "are gone"),
    }
    parts = []
    for state, (singular, plural) in words.items():
        names = [name for name, change in study.changed.items() if change == state]
        if names:
            parts.append(f"{name_ids(names)} {singular if len(names) == 1 else plural}")
    if not parts:
        return ""
    return (
        f"{'; '.join(parts)}. The page shows what is there now, with its numbers and sentences. "
        "Run the study again with the same --out (neurometamer run, or demo): what was changed is "
        "made again."
    )


def _banner(study: Study) -> list[tuple[str, str]]:
    stamps = []
    note = changed_note(study)
    if note:
        stamps.append(("Changed after the study", note))
    if study.simulated:
        meaning = "every brain number on this page comes from a simulation with known truth."
        stamps.append(("Simulated cortex", meaning))
    if study.network_stamp:
        meaning = "the weights are random; nothing here describes a trained network."
        stamps.append(("Untrained network", meaning))
    return stamps

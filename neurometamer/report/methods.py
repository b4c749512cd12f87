"""A methods section that says what was run, and the works to cite for it.

It is written from settings, tables and versions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from neurometamer.figures.style import count_text, order_places
from neurometamer.report.read_study import Study
from neurometamer.report.references import NETWORKS


def methods_text(study: Study) -> list[str]:
    """Write the methods of a study in paragraphs.

    Parameters
    ----------
    study : Study
        As read.

    Returns
    -------
    list of str
        Stimuli, network, fMRI, representational similarity, layers, encoding and software; parts
        that the study lacks are left out. How a number was computed is told in the words of its
        table.
    """
    makers = (
        _stimuli,
        _metamers,
        _network,
        _cortex,
        _regions,
        _similarity,
        _kinds,
        _layers,
        _encoding,
        _software,
    )
    return [text for make in makers if (text := make(study))]


def cited_works(study: Study) -> dict[str, str]:
    """Name the works whose methods the study used.

    Parameters
    ----------
    study : Study
        As read.

    Returns
    -------
    dict of str to str
        Key of `neurometamer.report.references.WORKS` to what is used of it.
    """
    kinds = study.rows("image_types")
    rsa = _settings(study, "rsa")
    corrections = {str(name) for name in kinds["correction"].dropna()}
    name = str(study.section("model").get("name", ""))
    layers = study.rows("layer_roi")
    rows = study.rows("metamers")
    of_several = "n_networks" in rows.columns and bool((rows["n_networks"] > 1).any())
    uses = {
        "zhang2021": ("RE, AN and AI images, RE–AN against RE–AI similarity", len(kinds) > 0),
        "nguyen2015": ("noise images that a network names with confidence", "AN" in study.kinds),
        "feather2023": (
            "metamers of networks and when they are valid",
            len(study.rows("metamers")) > 0,
        ),
        "boehm2025": ("metamers of several networks", of_several),
        "kriegeskorte2008": (
            "RDMs and their comparison by rank correlation",
            bool(study.rdms) or len(layers) > 0,
        ),
        "schutt2023": (
            "intervals over photographs",
            bool(rsa.get("resamples")) and len(kinds) + len(layers) > 0,
        ),
        "nili2014": ("lower and upper noise ceiling", _has_values(layers, "ceiling_low")),
        "tarhan2020": ("voxel selection by split-half reliability", _selected(study)),
        "benjamini1995": ("false discovery rate", "fdr" in corrections or _has_values(layers, "q")),
        "holm1979": ("correction for many tests", "holm" in corrections),
        "nichols2002": (
            "family-wise p by the largest value of each permutation",
            "max-t" in corrections,
        ),
        "mann1945": ("trends over layers", len(study.rows("trends")) > 0),
        "mumford2012": ("one model an event", _glm(study).get("estimator") == "LSS"),
        "kruskal1964": (
            "stimuli placed by their dissimilarities",
            study.stimuli is not None and bool(study.rdms),
        ),
        "nilearn": ("general linear model", bool(_glm(study))),
        NETWORKS.get(name, ""): ("architecture of the network", name in NETWORKS),
        "paszke2019": (
            "networks and gradients",
            bool(name) and "torch" in study.section("versions"),
        ),
    }
    return {key: use for key, (use, applies) in uses.items() if applies}


def _settings(study: Study, name: str) -> Mapping[str, Any]:
    section = study.section("settings").get(name)
    return section if isinstance(section, Mapping) else {}


def _glm(study: Study) -> Mapping[str, Any]:
    return _settings(study, "glm") if study.cortex else {}


def _has_values(rows: pd.DataFrame, column: str) -> bool:
    return column in rows.columns and bool(rows[column].notna().any())


def _selected(study: Study) -> bool:
    rows = study.rows("regions")
    return bool((rows["n_selected"] < rows["n_voxels"]).any())


def _texts(rows: pd.DataFrame, column: str, limit: int = 3) -> str:
    """Join the different texts of a column of a table, as they stand there."""
    if column not in rows.columns:
        return ""
    texts = [text for text in dict.fromkeys(rows[column].dropna().astype(str)) if text]
    more = f"; and {len(texts) - limit} more, in the table" if len(texts) > limit else ""
    return "; or ".join(texts[:limit]) + more


# --------------------------------------------------------------------------------------- paragraphs


def _stimuli(study: Study) -> str:
    if study.stimuli is None:
        return ""
    counts = study.stimuli.table["kind"].value_counts()
    parts = [
        f"Stimuli were {count_text(int(counts.get('RE', 0)), 'photograph')} (regular images, RE)"
    ]
    names = {"AN": "adversarial noise (AN)", "AI": "adversarial interference (AI)"}
    made = [f"{counts[kind]} images of {name}" for kind, name in names.items() if kind in counts]
    text = " and ".join([", ".join([*parts, *made[:-1]]), *made[-1:]]) + "."
    if _settings(study, "images").get("ready"):
        return f"{text} They were given as they were shown."
    for kind, section in (("AN", "noise"), ("AI", "interference")):
        if kind in counts:
            text += f" {_generator(study, kind, _settings(study, section))}"
    return text


def _generator(study: Study, kind: str, chosen: Mapping[str, Any]) -> str:
    """Say how images of one kind were made, with the settings that were in use."""
    greedy, nguyen = chosen.get("method") == "greedy", chosen.get("rule") == "nguyen"
    how = "gradient-free search" if greedy else "gradient steps"
    used = (
        ["amplitude", "max_tries"]
        if greedy
        else ["max_steps", "decay"]
        if nguyen
        else ["objective", "step_rule", "step_size", "pull", "max_steps"]
    )
    values = ", ".join(f"{name} = {chosen[name]}" for name in ("target", *used) if name in chosen)
    text = f"{kind} images were made by {how}"
    if "confidence" in chosen:
        text += (
            f" until the network gave the target a probability of {chosen['confidence']} on the "
            "8-bit image"
        )
    rows = study.stimuli.table if study.stimuli is not None else pd.DataFrame()
    own = rows[rows["kind"] == kind]
    met = ""
    if "success" in own.columns and own["success"].notna().any():
        met = (
            f"; {int((own['success'].astype(str) == 'True').sum())} of {len(own)} met this "
            "criterion"
        )
    return f"{text} ({values}){met}."


def _metamers(study: Study) -> str:
    rows, chosen = study.rows("metamers"), _settings(study, "metamers")
    if rows.empty:
        return ""
    sets = ", ".join(dict.fromkeys(rows["set"].astype(str)))
    changed = {str(name): value for name, value in (chosen.get("overrides") or {}).items()}
    numbers = ", ".join(f"{name} = {value}" for name, value in changed.items())
    steps = ", ".join(map(str, sorted(set(rows["steps"])))) if "steps" in rows.columns else ""
    text = (
        f"Metamers of {count_text(rows['reference_id'].nunique(), 'photograph')} were made for "
        f"{sets} at stage "
        f"{chosen.get('stage', '–')} with the preset {chosen.get('preset', '–')}"
        f"{f' ({numbers})' if numbers else ''}{f' in {steps} steps' if steps else ''}"
    )
    if chosen.get("null_pairs"):
        text += (
            f"; the null for their validity: {chosen['null_pairs']} pairs of different photographs"
        )
    return f"{text}. They were judged by {', '.join(dict.fromkeys(rows['judge'].astype(str)))}."


def _network(study: Study) -> str:
    model = study.section("model")
    if not model.get("name"):
        return ""
    weights = f", weights: {model['weights']}" if model.get("weights") else ""
    text = f"The network was {model['name']}{weights}"
    if "network" in study.rdms:
        stages = list(map(str, study.rdms["network"].rdm_descriptors.get("stage", ())))
        text += f"; responses were read at {count_text(len(stages), 'stage')} ({', '.join(stages)})"
    return f"{text}."


def _cortex(study: Study) -> str:
    glm = _glm(study)
    if not study.cortex or not glm:
        return ""
    who = "simulated subject" if study.simulated else "subject"
    options = ", ".join(
        f"{name} = {_value(value)}" for name, value in glm.items() if value not in ([], {}, "")
    )
    return (
        f"BOLD of {count_text(len(study.subjects), who)} was fitted with a general linear model, "
        f"one response per image and presentation (nilearn; {options})."
    )


def _value(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _regions(study: Study) -> str:
    rows = study.rows("regions")
    if rows.empty:
        return ""
    rois = order_places(rows["roi"])
    sizes = []
    for roi in rois:
        own = rows[rows["roi"] == roi]
        sizes.append(f"{roi} {_range(own['n_selected'])} of {_range(own['n_voxels'])}")
    how = "the most reliable voxels on regular images" if _selected(study) else "all usable voxels"
    return (
        f"Of each region {how} entered: {', '.join(sizes)} voxels. Reliability: "
        f"{_texts(rows, 'method')}."
    )


def _range(values: pd.Series) -> str:
    low, high = int(values.min()), int(values.max())
    return str(low) if low == high else f"{low}–{high}"


def _similarity(study: Study) -> str:
    if not study.rdms:
        return ""
    measures = dict.fromkeys(str(rdms.dissimilarity_measure) for rdms in study.rdms.values())
    return f"Representational dissimilarity matrices were computed by {' and '.join(measures)}."


def _kinds(study: Study) -> str:
    rows = study.rows("image_types")
    if rows.empty:
        return ""
    if (rows["subject"] == "mean").any():
        rows = rows[(rows["subject"] == "mean") | (rows["system"] == "network")]
    pairs = ", ".join(dict.fromkeys(rows["pair"].astype(str)))
    sentences = [f"{pairs} were computed in each layer and region: {_texts(rows, 'method')}"]
    for quantity, name in (("similarity", "similarities"), ("difference", "the difference")):
        part = rows[rows["quantity"] == quantity]
        if test := _texts(part, "p_method"):
            sentences.append(f"Test of {name}: {test}")
    correction, family = _texts(rows, "correction"), _texts(rows, "family")
    if correction and correction != "none":
        sentences.append(f"P-values were corrected ({correction}) over {family}")
    elif correction:
        sentences.append("P-values were not corrected")
    if ceiling := _texts(rows, "ceiling"):
        sentences.append(f"Noise ceiling: {ceiling}")
    if len(trends := study.rows("trends")):
        sentences.append(
            f"Trends over layers: {', '.join(dict.fromkeys(trends['test'].astype(str)))}"
        )
    return ". ".join(sentence.rstrip(".") for sentence in sentences) + "."


def _layers(study: Study) -> str:
    titles = {
        "layer_roi": "Layers were compared with regions on regular images",
        "best_layer": "The best layer was chosen and judged on different photographs",
        "hierarchy": "Order of regions and preferred layers",
    }
    sentences = []
    for name, title in titles.items():
        rows = study.rows(name)
        over = rows[rows["subject"].isin(("mean", "combined"))]
        rows = over if len(over) else rows
        if len(rows):
            details = [_texts(rows, column) for column in ("method", "p_method")]
            sentences.append(f"{title}: {'; '.join(text for text in details if text)}")
            family = _texts(rows, "family")
            sentences += (
                [f"Corrected over {family}"]
                if family and _has_values(rows, "q") and len(rows) > 1
                else []
            )
    return ". ".join(sentence.rstrip(".") for sentence in sentences) + "." if sentences else ""


def _encoding(study: Study) -> str:
    rows = study.rows("encoding")
    if rows.empty:
        return ""
    scheme = f" (scheme {_texts(rows, 'scheme')})" if "scheme" in rows.columns else ""
    return f"Voxel encoding models{scheme}: {_texts(rows, 'method').rstrip('.')}."


def _software(study: Study) -> str:
    return software_text(study.provenance)


def software_text(record: Mapping[str, Any]) -> str:
    """Name the programs behind a page, for its methods.

    Parameters
    ----------
    record : mapping
        Provenance: versions, and python and seed where they are known; a seed may also be among the
        settings.

    Returns
    -------
    str
        A sentence or two; empty where no versions are known.

    Examples
    --------
    >>> versions = {"neurometamer": "0.1.0", "numpy": "2.1.0"}
    >>> software_text({"versions": versions, "python": "3.12.1", "seed": 3})
    'Software: neurometamer 0.1.0 (Python 3.12.1, numpy 2.1.0). Random seed: 3.'
    """
    versions = record.get("versions") or {}
    if not versions:
        return ""
    names = ("torch", "nilearn", "rsatoolbox", "scikit-learn", "numpy", "scipy")
    others = [f"{name} {versions[name]}" for name in names if name in versions]
    python = f"Python {record['python']}" if "python" in record else ""
    settings = record.get("settings") or {}
    seeds = {**{name: settings[name] for name in ("seed",) if name in settings}, **record}
    seed = f" Random seed: {seeds['seed']}." if "seed" in seeds else ""
    listed = ", ".join(part for part in (python, *others) if part)
    return f"Software: neurometamer {versions.get('neurometamer', '')} ({listed}).{seed}"

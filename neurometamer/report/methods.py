"""Methods sections that say what was run, and the works to cite for it.

They are written from settings, tables and versions: those of a study, and of an evaluation of
metamers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from neurometamer.errors import count_text
from neurometamer.figures.style import KIND_NAMES, order_representations
from neurometamer.figures.tables import are_true
from neurometamer.report.beta_findings import betas_uses, betas_words, localizer_words
from neurometamer.report.disagreement import GENERATED
from neurometamer.report.read_study import Study, texts_of
from neurometamer.report.references import NETWORKS

if TYPE_CHECKING:
    from neurometamer.evaluation.sets import MetamerSet


# ----------------------------------------------------------------------------------------- software


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
    parts = []
    if "python" in record:
        parts.append(f"Python {record['python']}")
    for name in ("torch", "nilearn", "rsatoolbox", "scikit-learn", "numpy", "scipy"):
        if name in versions:
            parts.append(f"{name} {versions[name]}")
    text = f"Software: neurometamer {versions.get('neurometamer', '')} ({', '.join(parts)})."
    for known in (record, record.get("settings") or {}):
        if "seed" in known:
            return f"{text} Random seed: {known['seed']}."
    return text


# --------------------------------------------------------------------------------------- of a study


def study_methods(study: Study) -> list[str]:
    """Write the methods of a study in paragraphs.

    Parameters
    ----------
    study : Study
        As read.

    Returns
    -------
    list of str
        Stimuli, network, fMRI, representational similarity, layers, encoding and software; parts
        that the study lacks are left out. How a number was computed is said in the words of its
        table.
    """
    texts = [write(study) for write in PARAGRAPHS]
    return [text for text in [*texts, software_text(study.provenance)] if text]


def study_works(study: Study) -> dict[str, str]:
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
    kinds, layers = study.rows("image_types"), study.rows("layer_roi")
    metamers = study.rows("metamers")
    n_compared = len(kinds) + len(layers)
    corrections = set(texts_of(kinds, "correction"))
    name = str(study.section("model").get("name", ""))
    of_several = "n_networks" in metamers.columns and (metamers["n_networks"] > 1).any()
    of_classes = study.rows("controversial")["disagreement"] == "classes"
    placed = study.stimuli is not None and study.rdms
    false_discovery = "fdr" in corrections or _has_values(layers, "q")
    glm = _glm(study)
    with_torch = name and "torch" in study.section("versions")
    uses = {
        "zhang2021": ("RE, AN and AI images, RE–AN against RE–AI similarity", len(kinds)),
        "nguyen2015": ("noise images that a network names with confidence", "AN" in study.kinds),
        "feather2023": (
            "metamers of networks and when they are valid",
            len(metamers) + len(study.rows("divergent")),
        ),
        "golan2020": ("controversial images", of_classes.any()),
        "wang2008": ("maximum differentiation", len(study.rows("divergent"))),
        "berardino2017": ("eigendistortions", len(study.rows("eigendistortion"))),
        "boehm2025": ("metamers of several networks", of_several),
        "kriegeskorte2008": (
            "RDMs and their comparison by rank correlation",
            study.rdms or len(layers),
        ),
        "schutt2023": (
            "intervals over photographs",
            study.settings("rsa").get("n_resamples") and n_compared,
        ),
        "nili2014": ("lower and upper noise ceiling", _has_values(layers, "ceiling_low")),
        "tarhan2020": (
            "voxel selection by split-half reliability",
            _selected(study) and "'split-half'" in selection_words(study),
        ),
        "allen2022": ("noise ceilings of voxels", len(study.rows("ceilings"))),
        "benjamini1995": ("false discovery rate", false_discovery),
        "holm1979": ("correction for many tests", "holm" in corrections),
        "nichols2002": (
            "family-wise p by the largest value of each permutation",
            "max-t" in corrections,
        ),
        "mann1945": ("trends over layers", len(study.rows("trends"))),
        "mumford2012": ("one model an event", glm.get("estimator") == "LSS"),
        **betas_uses(study),
        "kruskal1964": ("stimuli placed by their dissimilarities", placed),
        "nilearn": ("general linear model", glm),
        "paszke2019": ("networks and gradients", with_torch),
    }
    works = {key: use for key, (use, applies) in uses.items() if applies}
    for key in network_works(name):
        works.setdefault(key, "the network")
    return works


def network_works(name: str) -> tuple[str, ...]:
    """Name the works that describe a network's architecture and training.

    Parameters
    ----------
    name : str
        Name of a network, as tables have it.

    Returns
    -------
    tuple of str
        Keys of `neurometamer.report.references.WORKS`; empty for a network that the table does not
        know.

    Examples
    --------
    >>> network_works("resnet50_byol")
    ('he2016', 'grill2020')
    """
    return NETWORKS.get(name.removesuffix("_grey"), ())


def _glm(study: Study) -> Mapping[str, Any]:
    """Return the settings of the general linear model; none where betas were made elsewhere."""
    if not study.cortex or study.section("brain").get("source") == "patterns":
        return {}
    return study.settings("glm")


def _has_values(rows: pd.DataFrame, column: str) -> bool:
    if column not in rows.columns:
        return False
    return bool(rows[column].notna().any())


def _selected(study: Study) -> bool:
    rows = study.rows("regions")
    return bool((rows["n_selected"] < rows["n_voxels"]).any())


def _texts(rows: pd.DataFrame, column: str, limit: int = 3) -> str:
    """Join the different texts of a column of a table, as they stand there."""
    texts = [text for text in texts_of(rows, column) if text]
    joined = "; or ".join(texts[:limit])
    if len(texts) > limit:
        joined += f"; and {len(texts) - limit} more, in the table"
    return joined


def _sentences(parts: Sequence[str]) -> str:
    if not parts:
        return ""
    return ". ".join([part.rstrip(".") for part in parts]) + "."


def _stimuli(study: Study) -> str:
    if study.stimuli is None:
        return ""
    counts = study.stimuli.table["kind"].value_counts()
    n_photographs = int(counts.get("RE", 0))
    photographs = count_text(n_photographs, "photograph")
    parts = [f"{photographs} (regular images, RE)"]
    made = [kind for kind in ("AN", "AI") if kind in counts]
    for kind in made:
        parts.append(f"{counts[kind]} images of {KIND_NAMES[kind]}")
    text = f"Stimuli were {', '.join(parts[:-1])} and {parts[-1]}."
    if len(parts) == 1:
        text = f"Stimuli were {parts[0]}."
    if study.settings("images").get("ready"):
        return f"{text} They were given as they were shown."
    sections = {
        "AN": "noise",
        "AI": "interference",
    }
    for kind in made:
        text += f" {_generator(study, kind, study.settings(sections[kind]))}"
    return text


def _generator(study: Study, kind: str, chosen: Mapping[str, Any]) -> str:
    """Say how images of one kind were made, with the settings that were in use."""
    how = "gradient steps"
    used = ["objective", "step_rule", "step_size", "pull", "max_steps"]
    if chosen.get("method") == "greedy":
        how = "gradient-free search"
        used = ["amplitude", "max_tries"]
    elif chosen.get("rule") == "nguyen":
        used = ["max_steps", "decay"]
    values = [f"{name} = {chosen[name]}" for name in ["target", *used] if name in chosen]
    text = f"{kind} images were made by {how}"
    if "confidence" in chosen:
        text += (
            f" until the network gave the target a probability of {chosen['confidence']} on the "
            "8-bit image"
        )
    text += f" ({', '.join(values)})"
    rows = study.stimuli.table if study.stimuli is not None else pd.DataFrame({"kind": []})
    own = rows[rows["kind"] == kind]
    if _has_values(own, "success"):
        text += f"; {int(are_true(own['success']).sum())} of {len(own)} met this criterion"
    return f"{text}."


def _metamers(study: Study) -> str:
    rows, chosen = study.rows("metamers"), study.settings("metamers")
    if rows.empty:
        return ""
    photographs = count_text(rows["reference_id"].nunique(), "photograph")
    text = (
        f"Metamers of {photographs} were made for {', '.join(texts_of(rows, 'set'))} at stage "
        f"{chosen.get('stage', '–')} with the preset {chosen.get('preset', '–')}"
    )
    overrides = chosen.get("overrides") or {}
    if overrides:
        text += f" ({', '.join(f'{name} = {value}' for name, value in overrides.items())})"
    if "steps" in rows.columns:
        steps = sorted(set(rows["steps"]))
        text += f" in {', '.join(map(str, steps))} steps"
    if chosen.get("null_pairs"):
        text += (
            f"; the null for their validity: {chosen['null_pairs']} pairs of different photographs"
        )
    return f"{text}. They were judged by {', '.join(texts_of(rows, 'evaluator'))}."


def _network(study: Study) -> str:
    model = study.section("model")
    if not model.get("name"):
        return ""
    text = f"The network was {model['name']}"
    if model.get("weights"):
        text += f", weights: {model['weights']}"
    if "network" in study.rdms:
        stages = list(map(str, study.rdms["network"].rdm_descriptors.get("stage", ())))
        text += f"; responses were read at {count_text(len(stages), 'stage')} ({', '.join(stages)})"
    return f"{text}."


_UNTOUCHED = {
    "per": "presentation",
    "hrf": "model",
    "n_noise": 0,
    "max_noise": 10,
    "shrinkage": "none",
}
"""Settings of single trials that are not worth a word: nothing was done."""


def _cortex(study: Study) -> str:
    glm = _glm(study)
    if not glm and study.cortex:
        n_subjects = count_text(len(study.subjects), "subject")
        text = f"Responses of {n_subjects} had been estimated before and were read from files."
        return f"{text} {betas_words(study)}".strip()
    if not glm:
        return ""
    options = []
    of_confounds = "confounds" in study.section("brain").get("drifts", ())
    for name, value in glm.items():
        if value == _UNTOUCHED.get(name):
            continue
        if name == "high_pass" and of_confounds:
            value = f"{value} or the cosines of fMRIPrep where the confounds hold them"
        if isinstance(value, (list, tuple)):
            value = ", ".join(map(str, value))
        if value not in ({}, ""):
            options.append(f"{name} = {value}")
    subjects = count_text(
        len(study.subjects), "simulated subject" if study.simulated else "subject"
    )
    each = "and session" if glm.get("per") == "condition" else "and presentation"
    text = (
        f"BOLD of {subjects} was fitted with a general linear model, one response per image "
        f"{each} (nilearn; {', '.join(options)})."
    )
    return " ".join(filter(None, [text, betas_words(study), localizer_words(study)]))


def _regions(study: Study) -> str:
    rows = study.rows("regions")
    if rows.empty:
        return ""
    sizes = []
    for roi in order_representations(rows["roi"]):
        own = rows[rows["roi"] == roi]
        sizes.append(f"{roi} {_range(own['n_selected'])} of {_range(own['n_voxels'])}")
    how = "all usable voxels"
    if _selected(study):
        how = f"the best voxels by {selection_words(study)}"
    return (
        f"Of each region {how} entered: {', '.join(sizes)} voxels. Reliability: "
        f"{_texts(rows, 'method')}."
    )


def selection_words(study: Study) -> str:
    """Say how a study selected voxels.

    Parameters
    ----------
    study : Study
        As read.

    Returns
    -------
    str
        Criterion and images.
    """
    settings = study.settings("selection")
    criterion = settings.get("criterion", "split-half")
    image_type = settings.get("image_type", "RE")
    images = f"{image_type} images, not by regular images alone"
    if image_type == "RE":
        images = "regular images only"
    return f"the criterion '{criterion}', judged on {images}"


def _range(values: pd.Series) -> str:
    low, high = int(values.min()), int(values.max())
    if low == high:
        return str(low)
    return f"{low}–{high}"


MEASURES_OF_NOISE = {"crossnobis", "Mahalanobis"}
"""Words in labels of measures that whiten the noise of voxels."""


def _rdms(study: Study) -> str:
    if not study.rdms:
        return ""
    measures = {}
    for system, rdms in study.rdms.items():
        measures[system] = str(rdms.dissimilarity_measure)
    names = list(dict.fromkeys(measures.values()))
    how = " and ".join(names)
    if len(names) > 1:
        how = ", ".join(f"{measure} ({system})" for system, measure in measures.items())
    text = f"Representational dissimilarity matrices were computed by {how}."
    if "brain" not in study.rdms:
        return text
    rsa = study.settings("rsa")
    noise = rsa.get("noise")
    if MEASURES_OF_NOISE & set(measures["brain"].split()):
        scatter = "presentations around the mean of their image"
        if rsa.get("residuals"):
            scatter = "residuals of the general linear model"
        how = f"The noise covariance of voxels was estimated from {scatter} ({noise})"
        if noise == "none":
            how = "Voxels were taken as equally noisy"
        text += f" {how}."
    if rsa.get("pooled"):
        text += " Voxels of all subjects were put side by side in one matrix a region."
    return text


def _image_types(study: Study) -> str:
    rows = study.rows("image_types")
    if rows.empty:
        return ""
    if (rows["subject"] == "mean").any():
        rows = rows[(rows["subject"] == "mean") | (rows["system"] == "network")]
    pairs = ", ".join(texts_of(rows, "pair"))
    sentences = [f"{pairs} were computed in each layer and region: {_texts(rows, 'method')}"]
    for quantity, name in (("similarity", "similarities"), ("difference", "the difference")):
        test = _texts(rows[rows["quantity"] == quantity], "p_method")
        if test:
            sentences.append(f"Test of {name}: {test}")
    correction, family = _texts(rows, "correction"), _texts(rows, "family")
    if correction == "none":
        sentences.append("P-values were not corrected")
    elif correction:
        sentences.append(f"P-values were corrected ({correction}) over {family}")
    ceiling = _texts(rows, "ceiling")
    if ceiling:
        sentences.append(f"Noise ceiling: {ceiling}")
    trends = texts_of(study.rows("trends"), "test")
    if trends:
        sentences.append(f"Trends over layers: {', '.join(trends)}")
    return _sentences(sentences)


def _layers(study: Study) -> str:
    titles = {
        "layer_roi": "Layers were compared with regions on regular images",
        "best_layer": "The best layer was chosen and judged on different photographs",
        "hierarchy": "Order of regions and preferred layers",
    }
    sentences = []
    for name, title in titles.items():
        rows = study.rows(name)
        over_subjects = rows[rows["subject"].isin(("mean", "combined"))]
        if len(over_subjects):
            rows = over_subjects
        if rows.empty:
            continue
        details = filter(None, [_texts(rows, "method"), _texts(rows, "p_method")])
        sentences.append(f"{title}: {'; '.join(details)}")
        family = _texts(rows, "family")
        if family and _has_values(rows, "q") and len(rows) > 1:
            sentences.append(f"Corrected over {family}")
    return _sentences(sentences)


def _encoding(study: Study) -> str:
    rows = study.rows("encoding")
    if rows.empty:
        return ""
    scheme = ""
    if "scheme" in rows.columns:
        scheme = f" (scheme {_texts(rows, 'scheme')})"
    how = _texts(rows, "method").rstrip(".")
    return f"Voxel encoding models{scheme}: {how}."


PARAGRAPHS: Sequence[Callable[[Study], str]] = (
    _stimuli,
    _metamers,
    *(made.text for made in GENERATED.values()),
    _network,
    _cortex,
    _regions,
    _rdms,
    _image_types,
    _layers,
    _encoding,
)
"""What writes each paragraph about a study, in order; its text is empty where it does not apply."""


# --------------------------------------------------------------------------------- of an evaluation


EVALUATION_WORKS: Mapping[str, str] = {
    "boehm2025": "recognizability, image metrics, divergence, sets of networks; what it leaves "
    "open is a setting here",
    "feather2023": "the two criteria of a valid metamer, 16 categories",
    "geirhos2018": "the 16 categories",
    "jeon2025": "networks as cross-validated observers; no numbers are published",
    "detlefsen2022": "definitions of the image metrics",
    "holm1979": "correction of p for the effects of factors",
}
"""Key of a work to what is used of it; those of parts that were not asked for are not cited."""

OF_PART = {
    "jeon2025": "observers",
    "detlefsen2022": "quality",
    "holm1979": "observers",
}
"""Works that one part alone rests on."""

TARGETS = {
    "own": "the class that the evaluator itself gives the photograph",
    "truth": "the ground truth",
    "generator": "the class that the generating networks give the photograph, as Boehm et al. "
    "(2025) count",
}
"""Target to the class that counts as recognized."""


def evaluation_works(record: Mapping[str, Any], sets: Sequence[MetamerSet]) -> dict[str, str]:
    """Name the works whose methods and networks an evaluation used.

    Parameters
    ----------
    record : mapping
        Provenance.
    sets : sequence of MetamerSet
        What was evaluated.

    Returns
    -------
    dict of str to str
        Key of `neurometamer.report.references.WORKS` to what is used of it.
    """
    parts = record["settings"]["parts"]
    works = {}
    for key, use in EVALUATION_WORKS.items():
        if key not in OF_PART or OF_PART[key] in parts:
            works[key] = use
    networks = [*record.get("evaluators", {}), *record.get("generators", {})]
    for metamers in sets:
        networks += metamers.members
    for name in networks:
        for key in network_works(name):
            works.setdefault(key, "a network")
    if "torch" in record.get("versions", {}):
        works["paszke2019"] = "networks"
    return works


def evaluation_methods(
    record: Mapping[str, Any],
    tables: Mapping[str, pd.DataFrame],
    sets: Sequence[MetamerSet],
    judged: bool,
) -> list[str]:
    """Write the methods of an evaluation in paragraphs.

    Parameters
    ----------
    record : mapping
        Provenance.
    tables : mapping of str to pandas.DataFrame
        As `neurometamer.commands.evaluate_metamer_sets` writes them.
    sets : sequence of MetamerSet
        What was evaluated.
    judged : bool
        Whether anybody judged which images are valid.

    Returns
    -------
    list of str
        Metamers, evaluators, what was measured, and software; parts that were not asked for are
        left out.
    """
    settings = record["settings"]
    parts = settings["parts"]
    texts = [_metamer_sets(tables["validity"], sets, judged)]
    named = []
    for name, network in record.get("evaluators", {}).items():
        named.append(f"{name} (weights: {network.get('weights') or 'not named'})")
    if named:
        texts.append(f"Evaluators were {', '.join(named)}, each with its own preprocessing.")
    if "recognizability" in parts:
        ways = []
        for n_ways in settings["ways"]:
            ways.append(f"{n_ways:,} {'classes' if n_ways == 1000 else 'categories'}")
        rules = f" (by {', '.join(settings['rules'])})" if 16 in settings["ways"] else ""
        interval = "No intervals were computed."
        if settings["n_resamples"]:
            interval = (
                f"Intervals ({100 * settings['confidence']:g} %) are percentile bootstraps over "
                f"photographs ({settings['n_resamples']} resamples)."
            )
        texts.append(
            "A metamer counted as recognized where an evaluator gave it "
            f"{TARGETS[settings['target']]}, of {' and of '.join(ways)}{rules}. Evaluators that "
            f"took part in making the images entered no mean. {interval}"
        )
    if "quality" in parts:
        quality = tables["quality"]
        names = texts_of(quality[quality["value"].notna()], "name")
        if names:
            texts.append(
                f"Image quality was measured against the photographs by {', '.join(names)}."
            )
    if "divergence" in parts:
        test = "it was not tested"
        if settings["n_permutations"]:
            test = f"p is from {settings['n_permutations']} exchanges of photograph and metamer"
        texts.append(
            "Distances among the responses of an evaluator to photographs and among those to "
            "metamers were compared by the Jensen–Shannon divergence (base 2) of their "
            f"distributions; {test}."
        )
    texts += _comparisons(settings)
    return [*filter(None, [*texts, software_text(record)])]


def _comparisons(settings: Mapping[str, Any]) -> list[str]:
    """Say how sets of networks, and networks as observers, were compared."""
    texts = []
    if "sets" in settings["parts"]:
        raters = "evaluators that are in no set"
        if settings["held_out"]:
            raters = f"the held-out evaluators {', '.join(settings['held_out'])}"
        texts.append(
            f"Sets of networks were scored by {raters}, and by all evaluators but their own "
            "networks. The effect of a network is the mean score of sets with it minus that of "
            "sets without it, with p corrected by Bonferroni; a linear regression parts it from "
            "the size of the set."
        )
    if "observers" in settings["parts"]:
        first, second = settings["factors"]
        texts.append(
            f"Metamers of each network were judged by all others; effects of {first} and {second} "
            "and their interaction were tested over photographs and over generating networks by "
            "permutation, corrected by Holm's method."
        )
    return texts


def _metamer_sets(validity: pd.DataFrame, sets: Sequence[MetamerSet], judged: bool) -> str:
    names, stages = texts_of(validity, "set"), texts_of(validity, "stage")
    low, high = int(validity["n_images"].min()), int(validity["n_images"].max())
    size = count_text(high, "photograph") if low == high else f"{low} to {high} photographs"
    at = "stages" if len(stages) > 1 else "stage"
    text = (
        f"Metamers of {size} were evaluated, made for {', '.join(names)} at {at} "
        f"{', '.join(stages)}."
    )
    priors = dict.fromkeys(metamers.image_prior for metamers in sets)
    named = [prior for prior in priors if prior not in ("", "none")]
    if named:
        text += f" A prior of natural images was used in making them: {'; '.join(named)}."
    if not judged:
        return f"{text} Their validity was not judged, so all images entered."
    n, valid = int(validity["n_images"].sum()), int(validity["n_valid"].sum())
    return (
        f"{text} A metamer was valid when, in its 8-bit file, every network of its set gave it "
        f"{class_asked(validity)} and responded to it more alike than to any pair of different "
        "photographs of the null distribution (Spearman, Pearson, signal-to-noise ratio); "
        f"{valid} of {n} were. Numbers are of these; failed ones are reported apart."
    )


def class_asked(validity: pd.DataFrame) -> str:
    """Say which class of the photograph networks had to give a valid metamer.

    Parameters
    ----------
    validity : pandas.DataFrame
        What `neurometamer.commands.validity_table` counted.

    Returns
    -------
    str
        Part of a sentence.
    """
    criteria: set[str] = set()
    if "class_criterion" in validity:
        for text in validity["class_criterion"].dropna():
            criteria.update(str(text).split("+"))
    if "own classes" not in criteria:
        asked = "the photograph's one of 16 classes"
    elif "16 categories" not in criteria:
        asked = "the photograph's first class, of its own classes,"
    else:
        asked = (
            "the photograph's one of 16 classes (where it has not ImageNet's classes: the "
            "photograph's first class, of its own)"
        )
    if "none" in criteria:
        asked += " (metamers of an embedding, which has no classes, were not judged)"
    return asked

"""S1: how often intervals of image types hold the truth, and tests reject a true null, over the generators."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks.bars import Row, Setup
from benchmarks.generators import DESIGNS, KINDS, Design, rank_rdm, study, true_similarities

PAIRS = ("RE-AN", "RE-AI", "RE-AI minus RE-AN")
STUDIES = 400
COVERED, LEVEL = (0.92, 0.98), (0.025, 0.075)
"""Bars of coverage and level at 95 %."""

SIZES = {
    "independent": (10, 20),
    "steep spectrum": (20,),
    "heavy tails": (20,),
    "fixed classes": (20,),
    "sessions, offsets .6": (20,),
}
"""Generators that are also run with other numbers of photographs than their own."""


def designs() -> dict[str, Design]:
    """List what is simulated.

    Returns
    -------
    dict of str to Design
        Name with the number of photographs to design.
    """
    listed = {f"{name}, n = {design.n}": design for name, design in DESIGNS.items()}
    for name, sizes in SIZES.items():
        listed |= {f"{name}, n = {n}": replace(DESIGNS[name], n=n) for n in sizes}
    return listed


USUAL = {
    "independent": (40, 20, 10),
    "strong": (40,),
    "fixed classes": (40, 20),
    "10 random classes": (40,),
    "sessions, offsets .6": (40,),
}
"""Generators and numbers of photographs for the usual bootstrap, interval ``"stimuli"``."""


def study_rdms(design: Design, studies: int, first: int = 0) -> Any:
    """Put many studies into one set of RDMs, each a region of its own.

    Parameters
    ----------
    design : Design
        How they are simulated.
    studies, first : int
        How many, and the seed of the first.

    Returns
    -------
    rsatoolbox.rdm.RDMs
        With the classes and sessions of the photographs.
    """
    from neurometamer.rsa.compute import label_rdms

    names = [f"im{i:03d}" for i in range(design.n)]
    patterns = {"kind": [kind for kind in KINDS for _ in names], "reference_id": names * len(KINDS)}
    if design.classes:
        patterns["category"] = [f"c{one}" for one in design.class_labels] * len(KINDS)
    if design.sessions:
        patterns["session"] = [f"s{one}" for one in design.session_labels] * len(KINDS)
    vectors = [
        rank_rdm(values) for seed in range(studies) for values in study(design, first + seed)
    ]
    places = {
        "subject": [f"S{k}" for k in range(design.subjects)] * studies,
        "roi": [f"study{k}" for k in range(studies) for _ in range(design.subjects)],
        "system": ["brain"] * len(vectors),
    }
    ids = [f"{kind}_{name}" for kind in KINDS for name in names]
    return label_rdms(
        np.array(vectors),
        conditions=ids,
        rdm_descriptors=places,
        pattern_descriptors=patterns,
        measure="1 - Spearman",
    )


def coverage(
    design: Design, studies: int = STUDIES, interval: str = "projection"
) -> dict[str, float]:
    """Count how often an interval over photographs holds the truth.

    Parameters
    ----------
    design : Design
        How studies are simulated.
    studies : int
        How many.
    interval : {"projection", "stimuli"}
        See `compare_image_types`.

    Returns
    -------
    dict of str to float
        ``RE-AN, subject``: share over subjects; ``RE-AN, mean``: of the mean over subjects; and so
        on.
    """
    from neurometamer.rsa.image_types.inference import compare_image_types

    truth = true_similarities(design)
    claim = "random" if design.random_classes else "fixed"
    options: dict[str, Any] = {"interval": interval, "classes": claim, "correction": "none"}
    options |= {"n_resamples": 400, "n_permutations": 0}
    table = compare_image_types(study_rdms(design, studies), **options)
    found = {}
    for column, pair in enumerate(PAIRS):
        rows = table[table["pair"] == pair]
        true = {f"S{k}": truth[k, column] for k in range(design.subjects)} | {
            "mean": truth[:, column].mean()
        }
        expected = rows["subject"].map(true)
        held = (rows["ci_low"] <= expected) & (expected <= rows["ci_high"])
        found[f"{pair}, subject"] = float(held[rows["subject"] != "mean"].mean())
        found[f"{pair}, mean"] = float(held[rows["subject"] == "mean"].mean())
    return found


def rejections(design: Design, studies: int = STUDIES) -> dict[str, float]:
    """Count how often p is at most .05 where RE-AN is 0, and where RE-AN and RE-AI are equal.

    Parameters
    ----------
    design : Design
        How studies are simulated; how alike AN and AI are is replaced.
    studies : int
        How many.

    Returns
    -------
    dict of str to float
        Of the mean over subjects: ``similarity`` (nothing is alike) and ``difference`` (both are
        alike).
    """
    from neurometamer.rsa.image_types.inference import compare_image_types

    claim = "random" if design.random_classes else "fixed"
    found = {}
    for quantity, alike, settings in (
        ("similarity", 0.0, {"interval": "none", "n_resamples": 0, "n_permutations": 199}),
        ("difference", design.ai, {"n_resamples": 400, "n_permutations": 0}),
    ):
        rdms = study_rdms(replace(design, an=alike, ai=alike), studies)
        table = compare_image_types(rdms, classes=claim, correction="none", **settings)
        rows = table[(table["quantity"] == quantity) & (table["subject"] == "mean")]
        found[quantity] = float((rows["p"] <= 0.05).mean())
    return found


def measure_calibration(setup: Setup) -> Sequence[Row]:
    """S1."""
    studies = setup.pick(STUDIES, 20)
    rows = []
    for name, design in designs().items():
        low = 0.90 if design.n < 20 else COVERED[0]
        for what, held in coverage(design, studies).items():
            note = f"{studies} studies; meant {low} to {COVERED[1]}"
            rows.append(
                Row(what=f"{name}: covers {what}", value=held, sense=">=", bound=low, note=note)
            )
        for what, rate in rejections(design, studies).items():
            note = f"{studies} studies; meant {LEVEL[0]} to {LEVEL[1]}"
            rows.append(
                Row(
                    what=f"{name}: rejects {what}",
                    value=rate,
                    sense="<=",
                    bound=LEVEL[1],
                    note=note,
                )
            )
    return rows

"""The picture of the first screen: an example of each kind of image, and where the answer holds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from neurometamer.figures.answer import answer_marks
from neurometamer.figures.style import PAIRS, clip_name
from neurometamer.report.findings import image_type_differences, is_true, similar_places
from neurometamer.report.page import Example, Picture, example_image
from neurometamer.report.read_study import Study
from neurometamer.report.study_rsa import picture, sheet_order

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
    examples = list(_adversarial(study)) or list(_metamer(study))
    return examples if len(examples) > 1 else []


def _adversarial(study: Study) -> Iterator[Example]:
    if study.stimuli is None:
        return
    table = study.stimuli.table.reset_index(drop=True)
    table = table.iloc[sheet_order(table)]
    kinds = [kind for kind in ("RE", "AI", "AN") if (table["kind"] == kind).any()]
    name = _clearest(table, kinds)
    for kind in kinds:
        rows = table[(table["reference_id"].astype(str) == name) & (table["kind"] == kind)]
        for index, row in rows.head(1).iterrows():
            speaker = str(row.get("model", "")) or "The network"
            own = speaker == study.section("model").get("name")
            image = study.stimuli.images[[int(str(index))]][0]
            yield _example(image, kind, row.get("top1_name"), "The network" if own else speaker)


def _clearest(table: pd.DataFrame, kinds: Sequence[str]) -> str:
    """Choose the first photograph with all its images, each of which met its criterion.

    Without one, the first photograph is taken.
    """
    names = table["reference_id"].astype(str)
    given = table["success"] if "success" in table.columns else pd.Series(np.nan, index=table.index)
    failed = given.notna() & ~given.map(is_true)
    for name in dict.fromkeys(names):
        own = names == name
        if set(table["kind"][own]) >= set(kinds) and not failed[own].any():
            return name
    return names.iloc[0]


def _metamer(study: Study) -> Iterator[Example]:
    rows = study.rows("metamers")
    for made_for, stimuli in study.metamers.items():
        of_set = rows[rows["set"] == made_for]
        if of_set.empty:
            continue
        first, rows_of = of_set.iloc[0], {name: row for row, name in enumerate(stimuli.ids)}
        photograph, metamer = (
            stimuli.images[rows_of[str(first[name])]] for name in ("reference_id", "id")
        )
        yield _example(photograph, "RE", first["judge_says_photograph"], str(first["judge"]))
        yield _example(metamer, "metamer", first["judge_says"], str(first["judge"]))
        return


def _example(image: np.ndarray, kind: str, said: object, speaker: str = "The network") -> Example:
    known = said is not None and not (isinstance(said, float) and np.isnan(said)) and str(said)
    return example_image(
        image, DESCRIPTIONS[kind], f"{speaker} says “{clip_name(said, 30)}”." if known else ""
    )


def lead_charts(study: Study) -> list[Picture]:
    """Draw RE-AI minus RE-AN over layers and regions.

    Where there is one similarity only, that one is drawn.

    Parameters
    ----------
    study : Study
        As read.

    Returns
    -------
    list of Picture
        Those that the tables can give.
    """
    cortex = "Simulated cortex" if study.simulated else "Cortex"
    titles = {"network": "Network, early to late layers", "brain": cortex}
    charts = []
    for system, title in titles.items():
        rows, label = image_type_differences(study, system), "RE–AI minus RE–AN"
        caption = (
            "Above 0 images made to fool the network are nearer to their photographs, below 0 "
            "noise is."
        )
        if rows.empty:
            rows = similar_places(study, system)
            label = "".join(PAIRS.get(pair, str(pair)) for pair in rows["pair"].head(1))
            caption = "Similarity of the RDM of these images with that of their photographs."
        if rows.empty:
            continue
        brain = system == "brain"
        stamp = study.brain_stamp if brain else study.network_stamp
        figure = answer_marks(rows, title=title, label=label, stamp=stamp)
        whiskers = (
            " Whiskers: intervals." if np.isfinite(rows["ci_low"].astype(float)).any() else ""
        )
        alt = "; ".join(f"{row['place']}: {row['follows']}" for row in rows.to_dict("records"))
        name = f"answer_{system}"
        charts.append(
            picture(
                study,
                name,
                figure,
                f"{caption}{whiskers}",
                f"Marks. {alt}.",
                table=rows,
                brain=brain,
            )
        )
    return charts

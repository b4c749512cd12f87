"""Figures of the evaluation: numbers, frames and notes are those of the tables, and all text is on
the page.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from torch import nn

from neurometamer.errors import InputError
from neurometamer.evaluation.divergence import divergence
from neurometamer.evaluation.image_quality import image_quality
from neurometamer.evaluation.model_sets import difference_in_means
from neurometamer.evaluation.recognizability import (
    AVERAGE,
    epsilon_comparison,
    recognition_summary,
    recognition_table,
    recognizability_curves,
)
from neurometamer.evaluation.sets import metamer_set
from neurometamer.figures import evaluation as draw
from neurometamer.figures.layout import Names, fit_size, text_width, wrap_name
from neurometamer.figures.style import format_number, save_figure
from stimuli_gen import StimulusSet, stage_model
from stimuli_gen.photographs import Preprocessing

STAMP = "simulated · untrained network (random weights)"
COUNTS = {"n_images": 16, "n_valid": 12, "n_failed": 3, "n_not_judged": 1, "pass_both": 0.8}
LONG = (
    "convnext_base.fb_in1k+resnet50.tv_in1k+vit_b_16_swag_linear_v1+swin_b"
    "+xcit_small_12_p16_224+deit_small"
)
NETWORKS = ("squeezenet1_0", "efficientnet_lite0", "efficientnet_lite1", "alexnet")
SETTINGS = ("unbounded", "linf 0.3 around start", "linf 8/255 around start")


def product(**levels: tuple) -> pd.DataFrame:
    return pd.DataFrame(list(itertools.product(*levels.values())), columns=list(levels))


def spread(table: pd.DataFrame, low: float = 0.05, high: float = 0.95) -> pd.DataFrame:
    value = np.random.default_rng(3).uniform(low, high, len(table)).round(3)
    return table.assign(
        value=value, low=np.maximum(value - 0.1, 0), high=np.minimum(value + 0.12, 1)
    )


def recognition(
    sets: tuple[str, ...] = ("squeezenet1_0+efficientnet_lite0", "alexnet"),
    stages: tuple[str, ...] = ("late", "early"),
    settings: tuple[str, ...] = ("unbounded",),
    evaluators: tuple[str, ...] = NETWORKS,
) -> pd.DataFrame:
    """Rows as `recognition_summary` makes them: two measures, and failed metamers beside the valid
    ones.
    """
    table = spread(
        product(
            set=sets,
            stage=stages,
            setting=settings,
            measure=((1000, "all classes"), (16, "first_mapped")),
            evaluator=(*evaluators, "mean of evaluators"),
            validity=("valid", "failed"),
        )
    )
    table[["ways", "rule"]] = table.pop("measure").tolist()
    average = table["evaluator"] == "mean of evaluators"
    part = [name in one.split("+") for name, one in zip(table["evaluator"], table["set"])]
    return table.assign(
        members=table["set"],
        trained=(table["evaluator"] != "alexnet").where(~average, None),
        target="own",
        n=12,
        took_part=pd.Series(part, dtype=object).where(~average, None),
        sd=np.where(average, 0.1, np.nan),
        n_averaged=np.where(average, 2, 1),
        note="",
        **COUNTS,
    )


def curves(**options: tuple[str, ...]) -> pd.DataFrame:
    table = recognition(**options)
    return table[(table["evaluator"] == "mean of evaluators") & (table["ways"] == 16)]


def divergences(
    sets: tuple[str, ...] = ("squeezenet1_0+efficientnet_lite0", "alexnet"),
    stages: tuple[str, ...] = ("late", "early"),
    evaluators: tuple[str, ...] = NETWORKS,
) -> pd.DataFrame:
    table = spread(
        product(
            set=sets,
            stage=stages,
            setting=("unbounded",),
            evaluator=evaluators,
            comparison=("RR-MM", "RR-RM", "MM-RM"),
            validity=("valid",),
        )
    )
    headline = table["comparison"] == "RR-MM"
    rank = np.arange(len(table))
    return table.assign(
        members=table["set"],
        headline=headline,
        trained=table["evaluator"] != "alexnet",
        took_part=[name in one.split("+") for name, one in zip(table["evaluator"], table["set"])],
        p=np.where(headline, np.where(rank % 2 == 0, 0.01, 0.4), np.nan),
        null_95=np.where(headline, 0.049, np.nan),
        degenerate=rank == 0,
        note="",
        n=12,
        **COUNTS,
    )


def restricted(
    sets: tuple[str, ...] = ("squeezenet1_0+efficientnet_lite0", "alexnet"),
) -> pd.DataFrame:
    table = spread(
        product(
            set=sets,
            stage=("middle", "early"),
            setting=SETTINGS,
            validity=("valid",),
            ways=(1000, 16),
        )
    )
    free = table["setting"] == "unbounded"
    change = np.where(free, np.nan, -table["value"] / 2)
    return table.assign(
        members=table["set"],
        rule=np.where(table["ways"] == 16, "first_mapped", "all classes"),
        target="own",
        n=12,
        baseline="unbounded",
        difference=change,
        low=change - 0.1,
        high=change + 0.1,
        n_paired=np.where(free, 0, 9),
    )


METRICS = {
    "fid": ("FID", "↓"),
    "ssim": ("SSIM", "↑"),
    "psnr": ("PSNR", "↑"),
    "vif": ("VIF", "↑"),
    "lpips": ("LPIPS", "↓"),
    "rase": ("RASE", "↓"),
    "scc": ("SCC", "↑"),
    "tv": ("TV", "↓"),
    "clip_iqa": ("CLIP-IQA", "↑"),
}


def quality(
    sets: tuple[str, ...] = ("squeezenet1_0+efficientnet_lite0", "alexnet"),
    stages: tuple[str, ...] = ("early", "middle", "late"),
    settings: tuple[str, ...] = ("unbounded",),
) -> pd.DataFrame:
    table = spread(
        product(
            set=sets, stage=stages, setting=settings, metric=tuple(METRICS), validity=("valid",)
        )
    )
    scale = table["metric"].map({"psnr": 30, "rase": 4000}).fillna(1)
    skipped = table["metric"].isin(["fid", "lpips", "clip_iqa"])
    path = "/home/somebody/weights/" + table["metric"] + "/a_file_of_weights.pth"
    numbers = {name: (table[name] * scale).mask(skipped) for name in ("value", "low", "high")}
    return table.assign(
        **numbers,
        members=table["set"],
        name=table["metric"].map(lambda one: METRICS[one][0]),
        arrow=table["metric"].map(lambda one: METRICS[one][1]),
        scale="data range 1",
        photograph_value=np.where(table["metric"] == "tv", 0.11, np.nan),
        note=("skipped: weights missing at " + path).where(skipped, ""),
        skipped=skipped,
        n=12,
        **COUNTS,
    )


def differences(n: int = 8) -> pd.DataFrame:
    value = np.linspace(-0.1, 0.12, n).round(3)
    return pd.DataFrame(
        {
            "network": [f"network_{i}" for i in range(n)],
            "appearances": 10 + np.arange(n),
            "difference": value,
            "low": value - 0.05,
            "high": value + 0.05,
            "se": 0.02,
            "p": 0.01,
            "n_sets": 100,
            "n_excluded": 2,
            "p_bonferroni": np.where(value > 0.1, 0.01, 0.5),
            "p_fdr": np.where(np.abs(value) > 0.05, 0.02, 0.5),
        }
    )


def examples(
    n: int = 4,
    rows: tuple[str, ...] = ("squeezenet1_0+efficientnet_lite0, early", "alexnet, early"),
):
    ids = tuple(f"photo_{i:03d}" for i in range(n))
    table = product(row=rows, reference_id=ids)
    states = ["valid", "failed", "not judged"]
    table = table.assign(state=[states[i % 3] for i in range(len(table))], n_asked=3)
    table["n_seen"] = np.arange(len(table)) % 4
    random = np.random.default_rng(0)
    photographs = {name: random.random((3, 12, 12)) for name in ids}
    pictures = {(row, name): random.random((3, 12, 12)) for row in rows for name in ids}
    return photographs, pictures, table


def observers(names: tuple[str, ...] = ("a", "b", "c"), groups: bool = True) -> pd.DataFrame:
    table = spread(product(generator=names, evaluator=(*names, "people")))
    table[["self", "n"]] = np.array(
        [table["generator"] == table["evaluator"], np.full(len(table), 16)], dtype=object
    ).T
    if not groups:
        return table
    group = {name: "robust" if rank % 2 else "standard training" for rank, name in enumerate(names)}
    return table.assign(
        generator_group=table["generator"].map(group),
        evaluator_group=table["evaluator"].map({**group, "people": "human"}),
    )


def interaction() -> pd.DataFrame:
    table = spread(product(a=("standard", "robust"), b=("CNN", "transformer")))
    return table.assign(factor_a="training", factor_b="architecture", n_generators=3, n_images=16)


# ------------------------------------------------------------------------------------ what is drawn

MANY = (*(f"network_number_{i}_with_a_name" for i in range(30)), "alexnet")
TRIPLES = tuple("+".join(MANY[i : i + 3]) for i in range(4))
DEPTHS = ("early", "middle", "late")
ODD = "a$b$_{c}"


def untold(table: pd.DataFrame, *columns: str) -> pd.DataFrame:
    return table.assign(**dict.fromkeys(columns, np.nan))


def restless(table: pd.DataFrame) -> pd.DataFrame:
    """Infinite, negative and missing values."""
    table = table.copy()
    table.loc[(table["metric"] == "psnr") & (table.index % 2 == 0), ["value", "high"]] = np.inf
    table.loc[table["metric"] == "scc", ["value", "low"]] -= 0.7
    table.loc[
        (table["metric"] == "ssim") & (table["stage"] == "late"), ["value", "low", "high"]
    ] = np.nan
    return table


MAKERS: dict[str, Callable[[str], Figure]] = {
    "recognizability": lambda stamp: draw.recognizability_matrix(
        recognition(), ways=16, stamp=stamp
    ),
    "recognizability, settings": lambda stamp: draw.recognizability_matrix(
        recognition(settings=SETTINGS), validity="failed", stamp=stamp
    ),
    "recognizability, one": lambda stamp: draw.recognizability_matrix(
        recognition(("alexnet",), ("early",), evaluators=("alexnet",)), stamp=stamp
    ),
    "recognizability, large": lambda stamp: draw.recognizability_matrix(
        recognition(TRIPLES, DEPTHS, evaluators=MANY), stamp=stamp
    ),
    "recognizability, long": lambda stamp: draw.recognizability_matrix(
        recognition(
            (LONG, LONG + "2", ODD),
            ("layer4.2.relu+blocks.11.norm1", ODD),
            evaluators=(LONG * 2, ODD),
        ),
        stamp=stamp,
    ),
    "recognizability, nothing": lambda stamp: draw.recognizability_matrix(
        untold(recognition(), "value", "low", "high"), stamp=stamp
    ),
    "lines": lambda stamp: draw.recognizability_lines(curves(), chance=1 / 16, stamp=stamp),
    "lines, settings": lambda stamp: draw.recognizability_lines(
        curves(sets=(*TRIPLES, LONG, LONG * 3, ODD), stages=DEPTHS, settings=SETTINGS),
        chance=1 / 16,
        stamp=stamp,
    ),
    "lines, one": lambda stamp: draw.recognizability_lines(
        curves(sets=("alexnet",), stages=("layer4.2.relu+blocks.11.norm1",)),
        chance=0.001,
        stamp=stamp,
    ),
    "lines, four settings": lambda stamp: draw.recognizability_lines(
        curves(settings=(*SETTINGS, LONG)).query("validity == 'valid'"), chance=0.001, stamp=stamp
    ),
    "lines, nothing": lambda stamp: draw.recognizability_lines(
        untold(curves(), "value", "low", "high", "sd"), chance=0.001, stamp=stamp
    ),
    "epsilon": lambda stamp: draw.epsilon_bars(restricted(), ways=16, stamp=stamp),
    "epsilon, long": lambda stamp: draw.epsilon_bars(restricted((LONG, ODD, "b")), stamp=stamp),
    "epsilon, nothing": lambda stamp: draw.epsilon_bars(
        untold(restricted(), "value", "difference", "low", "high"), stamp=stamp
    ),
    "quality": lambda stamp: draw.quality_bars(restless(quality()), stamp=stamp),
    "quality, one": lambda stamp: draw.quality_bars(
        quality(("alexnet",), ("early",)).query("metric == 'ssim'"), stamp=stamp
    ),
    "quality, large": lambda stamp: draw.quality_bars(
        quality((*TRIPLES, LONG, ODD), settings=SETTINGS), stamp=stamp
    ),
    "quality, nothing": lambda stamp: draw.quality_bars(
        untold(quality(), "value", "low", "high"), stamp=stamp
    ),
    "divergence": lambda stamp: draw.divergence_heatmap(divergences(), stamp=stamp),
    "divergence, large": lambda stamp: draw.divergence_heatmap(
        divergences(TRIPLES, DEPTHS, evaluators=MANY), stamp=stamp
    ),
    "divergence, nothing": lambda stamp: draw.divergence_heatmap(
        untold(divergences(), "value", "p", "null_95"), stamp=stamp
    ),
    "differences": lambda stamp: draw.set_differences(differences(), stamp=stamp),
    "differences, one": lambda stamp: draw.set_differences(
        differences(1).assign(network=LONG), stamp=stamp
    ),
    "differences, nothing": lambda stamp: draw.set_differences(
        untold(differences(31), "difference", "low", "high", "p_bonferroni", "p_fdr"), stamp=stamp
    ),
    "examples": lambda stamp: draw.example_sheet(*examples(), stamp=stamp),
    "examples, long": lambda stamp: draw.example_sheet(
        *examples(10, (LONG * 6, ODD, "x" * 80)), stamp=stamp
    ),
    "examples, one": lambda stamp: draw.example_sheet(*examples(1, ("a",)), stamp=stamp),
    "observers": lambda stamp: draw.observer_matrix(observers(), stamp=stamp),
    "observers, no groups": lambda stamp: draw.observer_matrix(
        observers(("a",), groups=False), stamp=stamp
    ),
    "observers, large": lambda stamp: draw.observer_matrix(
        observers((*MANY[:12], LONG, ODD)), stamp=stamp
    ),
    "observers, nothing": lambda stamp: draw.observer_matrix(
        untold(observers(), "value", "n"), stamp=stamp
    ),
    "interaction": lambda stamp: draw.observer_bars(interaction(), stamp=stamp),
    "interaction, nothing": lambda stamp: draw.observer_bars(
        untold(interaction(), "value", "low", "high", "n_images"), stamp=stamp
    ),
}


def drawn(figure: Figure) -> list[Text]:
    """All texts that are drawn: not the labels of ticks beyond an axis, nor those of axes that are
    switched off.
    """
    found = [*figure.texts, *(text for legend in figure.legends for text in legend.get_texts())]
    for axes in figure.axes:
        found += [*axes.texts, axes.title]
        if axes.axison:
            found += [axes.xaxis.label, axes.yaxis.label, *seen_ticks(axes)]
    return [text for text in found if text.get_visible() and text.get_text()]


def seen_ticks(axes: Axes) -> list[Text]:
    found = []
    for axis, ends in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
        inside = [
            tick
            for tick in axis.get_major_ticks()
            if min(ends) - 1e-9 <= tick.get_loc() <= max(ends) + 1e-9
        ]
        found += [label for tick in inside for label in (tick.label1, tick.label2)]
    return found


def words(figure: Figure) -> list[str]:
    return [text.get_text() for text in drawn(figure)]


def note(figure: Figure) -> str:
    """The longest text on the figure itself, without line breaks."""
    return " ".join(max((text.get_text() for text in figure.texts), key=len).split())


def dashed(axes: Axes) -> list[Rectangle]:
    return [
        patch
        for patch in axes.patches
        if isinstance(patch, Rectangle) and patch.get_linestyle() not in ("-", "solid")
    ]


def cell(axes: Axes, x: float, y: float) -> tuple[str, int]:
    """Name of the row, and number of the column, of a place."""
    rows = {
        place: label.get_text()
        for place, label in zip(axes.get_yticks(), axes.get_yticklabels(), strict=True)
    }
    return rows[min(rows, key=lambda place: abs(place - y))], int(
        np.argmin(np.abs(axes.get_xticks() - x))
    )


def framed(axes: Axes) -> set[tuple[str, int]]:
    centers = [patch.get_center() for patch in dashed(axes)]
    return {cell(axes, *center) for center in centers}


def numbers(axes: Axes) -> dict[tuple[str, int], str]:
    """What stands in the cells, the first line of each."""
    found: dict[tuple[str, int], str] = {}
    low, high = sorted(axes.get_ylim())
    for text in axes.texts:
        x, y = text.get_position()
        if text.get_transform() == axes.transData and low <= y <= high:
            found.setdefault(cell(axes, x, y), text.get_text())
    return found


# ------------------------------------------------------------------------------------- every figure


@pytest.mark.parametrize("name", MAKERS)
def test_all_text_is_on_the_page_and_none_lies_on_other_text_nor_the_stamp_on_anything(
    name: str,
) -> None:
    figure = MAKERS[name](STAMP)
    figure.draw_without_rendering()
    found = drawn(figure)
    boxes = np.array([text.get_window_extent().extents for text in found])
    for text, box in zip(found, boxes, strict=True):
        assert box[:2].min() >= -1 and (box[2:] <= figure.bbox.max + 1).all(), text.get_text()
    low, high = boxes[:, :2] + 1, boxes[:, 2:] - 1
    apart = (low[:, None] >= high[None]).any(axis=2) | (high[:, None] <= low[None]).any(axis=2)
    clashes = [(found[i].get_text(), found[j].get_text()) for i, j in np.argwhere(~apart) if i < j]
    assert not clashes
    (stamp,) = [text for text in figure.texts if text.get_text() == STAMP.upper()]
    box = stamp.get_window_extent()
    others = [axes.get_tightbbox() for axes in figure.axes] + [
        legend.get_window_extent() for legend in figure.legends
    ]
    assert not any(box.overlaps(other) for other in others if other is not None)


@pytest.mark.parametrize("name", ["recognizability", "lines", "examples, one"])
def test_without_a_stamp_there_is_none_and_no_room_for_it(name: str) -> None:
    plain, stamped = MAKERS[name](""), MAKERS[name](STAMP)
    assert STAMP.upper() not in words(plain)
    assert stamped.get_figheight() - plain.get_figheight() > 0.2


@pytest.mark.parametrize(
    "name", [name for name in MAKERS if name.startswith(("recog", "diver", "observers"))]
)
def test_words_of_cells_stay_in_their_cells(name: str) -> None:
    figure = MAKERS[name]("")
    figure.draw_without_rendering()
    axes = figure.axes[0]
    down, across = np.abs(np.diff(axes.transData.transform([[0, 0], [1, 1]]), axis=0))[0][::-1]
    for text in axes.texts:
        if text.get_transform() == axes.transData:
            box = text.get_window_extent()
            assert box.width < across and box.height < down, text.get_text()


@pytest.mark.parametrize(
    "name",
    ["recognizability", "lines", "epsilon", "quality", "differences", "examples", "observers"],
)
def test_equal_tables_give_equal_files(name: str, tmp_path: Path) -> None:
    one, two = (save_figure(MAKERS[name](STAMP), tmp_path / which) for which in ("one", "two"))
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]


# ----------------------------------------------------------------------------------------- matrices


def test_matrix_shows_each_number_in_its_cell_and_frames_members_only() -> None:
    table = recognition()
    axes = draw.recognizability_matrix(table, ways=16).axes[0]
    columns = [
        (one, stage)
        for one in ("squeezenet1_0+efficientnet_lite0", "alexnet")
        for stage in ("early", "late")
    ]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["early", "late"] * 2
    rows = table[(table["ways"] == 16) & (table["validity"] == "valid")].set_index(
        ["evaluator", "set", "stage"]
    )["value"]
    found = numbers(axes)
    for name, label in {network: network for network in NETWORKS[:3]}.items() | {
        ("alexnet", "alexnet (random weights)"),
        (AVERAGE, AVERAGE),
    }:
        for column, key in enumerate(columns):
            assert found[label, column] == format_number(rows[(name, *key)])
    members = {
        ("squeezenet1_0", 0),
        ("squeezenet1_0", 1),
        ("efficientnet_lite0", 0),
        ("efficientnet_lite0", 1),
    }
    assert framed(axes) == members | {
        ("alexnet (random weights)", 2),
        ("alexnet (random weights)", 3),
    }
    assert len(dashed(axes)) == 6
    assert [found["valid of judged", column] for column in range(4)] == ["12/15"] * 4


def test_matrix_tells_measure_members_and_why_cells_are_empty() -> None:
    table = recognition()
    gone = (table["set"] == "alexnet") & (table["stage"] == "late")
    table.loc[gone, ["value", "low", "high"]] = np.nan
    table.loc[gone, "note"] = "excluded: no valid metamer of 4 (4 failed, 0 not judged)"
    alone = gone & (table["evaluator"] == AVERAGE)
    table.loc[alone, "note"] += "; 1 evaluator(s) counted; a mean needs 2"
    figure = draw.recognizability_matrix(table, ways=1000)
    axes = figure.axes[0]
    assert [numbers(axes)[row, 3] for row in ("squeezenet1_0", AVERAGE)] == ["–", "–"]
    hatched = [patch for patch in axes.patches if patch.get_hatch()]
    assert {cell(axes, *patch.get_center())[1] for patch in hatched} == {3} and len(hatched) == 5
    told = note(figure)
    assert (
        "1,000 ways (all classes); wanted class: the evaluator's own of the photograph. Valid "
        "metamers only." in told
    )
    assert "Dashed frame: took part in making the images, and left out of the mean" in told
    assert "alexnet late: excluded: no valid metamer of 4 (4 failed, 0 not judged)" in told
    assert "1 evaluator(s) counted; a mean needs 2" in told


def test_matrix_of_failed_metamers_says_so() -> None:
    figure = draw.recognizability_matrix(recognition(), validity="failed")
    assert "Failed metamers only" in note(figure)
    assert numbers(figure.axes[0])["failed of judged", 0] == "3/15"
    figure = draw.recognizability_matrix(
        recognition()
        .assign(validity="not judged")
        .drop_duplicates(["set", "stage", "evaluator", "ways"]),
        validity="not judged",
    )
    assert numbers(figure.axes[0])["not judged of all", 0] == "1/16"


def test_matrix_of_several_settings_names_them_in_the_columns() -> None:
    axes = draw.recognizability_matrix(recognition(settings=SETTINGS)).axes[0]
    names = [" ".join(label.get_text().split()) for label in axes.get_xticklabels()]
    assert (
        names == [f"{stage} {setting}" for stage in ("early", "late") for setting in SETTINGS] * 2
    )


def test_names_that_fit_nowhere_are_numbered_and_told_in_full() -> None:
    figure = MAKERS["recognizability, long"]("")
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels[0] == "[1]"
    assert f"[1] {' + '.join((LONG * 2).split('+'))}" in note(figure)
    assert ODD + " (random weights)" not in labels and ODD in labels


def test_divergence_marks_p_the_null_and_what_is_degenerate() -> None:
    table = divergences()
    figure = draw.divergence_heatmap(table)
    axes = figure.axes[0]
    rows = table[table["headline"]].set_index(["evaluator", "set", "stage"])
    found = numbers(axes)
    for name in NETWORKS[:3]:
        row = rows.loc[(name, "alexnet", "early")]
        assert found[name, 2] == format_number(row["value"]) + ("*" if row["p"] < 0.05 else "")
    first = rows.loc[("squeezenet1_0", "squeezenet1_0+efficientnet_lite0", "late")]
    assert first["degenerate"] and found["squeezenet1_0", 1] == format_number(first["value"]) + "*†"
    assert sum(text.get_text() == "(.05)" for text in axes.texts) == 16
    assert framed(axes) == {(network, at) for network in NETWORKS[:2] for at in (0, 1)} | {
        ("alexnet (random weights)", 2),
        ("alexnet (random weights)", 3),
    }
    told = note(figure)
    for part in (
        "of the distances between photographs (RR) and between metamers (MM)",
        "95 % of the permutation null",
        "*: p < .05, permutation, not corrected",
        "†: distances almost equal",
    ):
        assert part in told
    plain = note(draw.divergence_heatmap(table.assign(degenerate=False, p=np.nan, took_part=False)))
    assert not any(sign in plain for sign in ("†", "*", "Dashed"))


def test_observers_are_grouped_and_their_means_leave_out_the_self() -> None:
    table = observers()
    figure = draw.observer_matrix(table)
    axes = figure.axes[0]
    found = numbers(axes)
    rows = [label.get_text() for label in axes.get_yticklabels()]
    columns = [label.get_text() for label in axes.get_xticklabels()]
    assert rows == ["a", "c", "b", "mean of others"]
    assert [" ".join(column.split()) for column in columns] == [
        "a",
        "c",
        "b",
        "people",
        "mean of others",
    ]
    assert framed(axes) == {("a", 0), ("c", 1), ("b", 2)}
    value = table.set_index(["generator", "evaluator"])["value"]
    assert found["a", 3] == format_number(value["a", "people"])
    assert found["a", 4] == format_number(value[[("a", "b"), ("a", "c"), ("a", "people")]].mean())
    assert found["mean of others", 2] == format_number(value[[("a", "b"), ("c", "b")]].mean())
    assert ("mean of others", 4) not in found or found["mean of others", 4] == ""
    texts = [" ".join(text.get_text().split()) for text in axes.texts]
    assert (
        texts.count("standard training") == 2
        and texts.count("robust") == 2
        and texts.count("human") == 1
    )
    assert "n = 16 a cell" in note(figure) and "left out of the means" in note(figure)


# -------------------------------------------------------------------------------------------- lines


def test_lines_keep_states_apart_and_stand_above_their_pass_rates() -> None:
    table = curves(stages=("late", "early", "middle"))
    figure = draw.recognizability_lines(table, chance=1 / 16)
    assert [axes.get_title() for axes in figure.axes[::2]] == ["valid metamers", "failed metamers"]
    for axes, state in zip(figure.axes[::2], ("valid", "failed"), strict=True):
        assert [label.get_text() for label in axes.get_xticklabels()] == ["early", "middle", "late"]
        for line, one in zip(axes.get_lines(), ("squeezenet1_0+efficientnet_lite0", "alexnet")):
            own = table[(table["set"] == one) & (table["validity"] == state)].set_index("stage")[
                "value"
            ]
            np.testing.assert_array_equal(line.get_ydata(), own[["early", "middle", "late"]])
            assert (line.get_markerfacecolor() == "white") == (state == "failed")
    below = [[text.get_text() for text in axes.texts] for axes in figure.axes[1::2]]
    assert below == [["valid of judged", *["12/15"] * 6], ["failed of judged", *["3/15"] * 6]]
    told = note(figure)
    assert "16 ways (first_mapped)" in told and "s.d. over evaluators: .10 (2 evaluators)" in told
    assert "chance, 0.0625" in told and "Setting: unbounded" in told


def test_lines_have_panels_by_setting_and_miss_what_is_missing() -> None:
    table = curves(settings=SETTINGS)
    table = table[(table["setting"] == "unbounded") | (table["validity"] == "valid")]
    figure = draw.recognizability_lines(table.assign(n_valid=np.nan), chance=0.1)
    titles = [axes.get_title().split("\n") for axes in figure.axes[::2]]
    assert titles == [
        ["unbounded", "valid metamers"],
        ["unbounded", "failed metamers"],
        *([setting, "valid metamers"] for setting in SETTINGS[1:]),
    ]
    assert {text.get_text() for text in figure.axes[1].texts} == {"valid of judged", "–"}
    assert "no value to draw" in words(MAKERS["lines, nothing"](""))
    assert "[1]\nvalid metamers" in words(MAKERS["lines, four settings"](""))


def test_more_sets_than_can_be_told_apart_are_counted() -> None:
    figure = draw.recognizability_lines(
        curves(sets=tuple(f"s{i}" for i in range(24)), stages=("early",)), chance=0.1
    )
    assert "21 of 24 sets are shown" in note(figure)
    lines = figure.axes[0].get_lines()
    assert len(lines) == 21 + 1  # chance
    looks = [(line.get_color(), line.get_marker(), line._unscaled_dash_pattern) for line in lines]
    assert len(set(map(str, looks))) == 22


def test_interaction_names_factors_and_sizes() -> None:
    table = interaction()
    figure = draw.observer_bars(table)
    assert figure.axes[0].get_xlabel() == "training"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "architecture: CNN",
        "architecture: transformer",
    ]
    own = table[table["b"] == "transformer"].set_index("a")["value"]
    np.testing.assert_array_equal(
        figure.axes[0].get_lines()[1].get_ydata(), own[["standard", "robust"]]
    )
    assert [text.get_text() for text in figure.axes[1].texts] == [
        "generators × images",
        *["3 × 16"] * 4,
    ]
    assert "by training (across) and architecture (lines)" in note(figure)


# ------------------------------------------------------------------------------------ dots and bars


def test_restricted_images_stand_beside_their_paired_difference() -> None:
    table = restricted()
    figure = draw.epsilon_bars(table, ways=16)
    left, right, counts = figure.axes
    rows = table[table["ways"] == 16].set_index(["setting", "set", "stage"])
    keys = [
        (one, stage)
        for one in ("squeezenet1_0+efficientnet_lite0", "alexnet")
        for stage in ("early", "middle")
    ]
    for setting, value, change in zip(SETTINGS, left.get_lines(), right.get_lines()):
        np.testing.assert_array_equal(
            value.get_xdata(), [rows.loc[(setting, *key), "value"] for key in keys]
        )
        np.testing.assert_array_equal(
            change.get_xdata(), [rows.loc[(setting, *key), "difference"] for key in keys]
        )
    labels = [label.get_text() for label in left.get_yticklabels()]
    assert labels == [
        "squeezenet1_0+efficientnet_lite0",
        "early",
        "middle",
        "alexnet",
        "early",
        "middle",
    ]
    told = [text.get_text() for text in counts.texts]
    assert told.count("n = 12") == 4 and told.count("n = 12, 9 paired") == 8
    assert right.get_xlabel() == "difference to unbounded"
    ends = np.concatenate(
        [segment for lines in right.collections for segment in lines.get_segments()]
    )[:, 0]
    np.testing.assert_allclose(
        np.sort(ends), np.sort(rows[["low", "high"]].dropna().to_numpy().ravel())
    )


def test_differences_are_sorted_marked_and_all_told() -> None:
    table = differences()
    table.loc[[2, 5, 6], ["difference", "low", "high", "p_bonferroni", "p_fdr"]] = np.nan
    table.loc[2, "appearances"], table.loc[5, "appearances"] = 0, 100
    figure = draw.set_differences(table)
    axes = figure.axes[0]
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == [f"network_{i}  ({10 + i} of 100)" for i in (7, 4, 3, 1, 0)]
    marks = [line for line in axes.get_lines() if len(line.get_xdata()) == 1]
    shapes = [
        "hollow" if line.get_markerfacecolor() == "white" else line.get_fillstyle()
        for line in marks
    ]
    assert shapes == ["full", "hollow", "hollow", "left", "left"]
    assert [line.get_xdata()[0] for line in marks] == sorted(
        table["difference"].dropna(), reverse=True
    )
    told = note(figure)
    assert "not drawn: in no set: network_2; in all sets: network_5; no value: network_6" in told
    assert "2 set(s) without a score are left out" in told
    assert "no network has a difference" in words(MAKERS["differences, nothing"](""))


def test_quality_has_a_panel_a_metric_with_its_direction() -> None:
    table = quality()
    figure = draw.quality_bars(table)
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == [*(f"{name} {arrow}" for name, arrow in METRICS.values()), "valid of judged"]
    panel = figure.axes[titles.index("VIF ↑")]
    assert [label.get_text() for label in panel.get_xticklabels()] == ["early", "middle", "late"]
    for bars, one in zip(
        panel.containers, ("squeezenet1_0+efficientnet_lite0", "alexnet"), strict=True
    ):
        own = table[(table["metric"] == "vif") & (table["set"] == one)]["value"]
        np.testing.assert_allclose([bar.get_height() for bar in bars], own)
    skipped = figure.axes[titles.index("LPIPS ↓")]
    assert not skipped.axison
    (text,) = skipped.texts
    assert text.get_text().replace("\n", " ").replace(" /", "/") == (
        "skipped: weights missing at/home/somebody/weights/lpips/a_file_of_weights.pth"
    )
    assert [word.get_text() for word in figure.axes[-1].texts] == ["12/15"] * 6
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["squeezenet1_0+efficientnet_lite0", "alexnet", "photographs"]
    plain = draw.quality_bars(table.assign(photograph_value=np.nan))
    assert "photographs" not in words(plain)


def test_quality_tells_infinite_and_missing_values() -> None:
    table = restless(quality())
    table.loc[table["metric"] == "tv", "note"] = "16 images, fewer than 2049: FID is biased"
    figure = draw.quality_bars(table)
    panels = {axes.get_title(): axes for axes in figure.axes}
    endless = int(np.isinf(table.loc[table["metric"] == "psnr", "value"]).sum())
    assert sum(text.get_text() == "∞" for text in panels["PSNR ↑"].texts) == endless > 0
    assert "∞: infinite" in note(figure) and np.isfinite(panels["PSNR ↑"].get_ylim()).all()
    assert [text.get_text() for text in panels["SSIM ↑"].texts] == ["–", "–"]
    assert panels["SCC ↑"].get_ylim()[0] < table.loc[table["metric"] == "scc", "low"].min()
    assert "TV of squeezenet1_0+efficientnet_lite0 early" in note(
        figure
    ) and "FID is biased" in note(figure)
    assert "∞" not in " ".join(words(draw.quality_bars(quality())))


# ----------------------------------------------------------------------------------------- examples


def test_examples_show_each_image_with_its_state_and_who_sees_it() -> None:
    photographs, pictures, table = examples()
    table = table.drop(index=[5])
    table.loc[0, "n_asked"] = 0
    figure = draw.example_sheet(photographs, pictures, table)
    told = words(figure)
    assert "✓ valid\nnobody asked" in told and "none" in told
    for _, row in table.iloc[1:].iterrows():
        sign = {"valid": "✓ valid", "failed": "✗ failed", "not judged": "? not judged"}[
            row["state"]
        ]
        assert f"{sign}\n{row['n_seen']} of 3 see it" in told
    axes = figure.axes[0]
    assert len(axes.images) == 4 + 7
    levels = np.rint(255 * np.moveaxis(pictures[table["row"].iloc[0], "photo_001"], 0, -1))
    assert any(np.array_equal(np.asarray(image.get_array()), levels) for image in axes.images)
    styles = [patch.get_linestyle() for patch in axes.patches]
    assert len(styles) == 7 and len({str(style) for style in styles}) >= 2
    assert {"photographs", "photo_000", "photo_003"} <= set(told)


def test_examples_are_at_most_eight_and_keep_their_form() -> None:
    photographs, pictures, table = examples(10)
    photographs["photo_000"] = np.zeros((3, 8, 12))
    figure = draw.example_sheet(photographs, pictures, table)
    assert "8 of 10 photographs are shown" in note(figure)
    assert "photo_007" in words(figure) and "photo_008" not in words(figure)
    padded = np.asarray(figure.axes[0].images[0].get_array())
    assert padded.shape == (12, 12, 3) and (padded[:2] == 255).all() and (padded[2:10] == 0).all()


# ---------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: draw.recognizability_matrix(
                recognition().drop(columns=["took_part", "n_valid"])
            ),
            "part, n_valid",
        ),
        (
            lambda: draw.recognizability_matrix(recognition().head(0)),
            "recognizability table has no rows",
        ),
        (
            lambda: draw.recognizability_matrix(recognition(), ways=8),
            r"\(8 ways\) table has no rows",
        ),
        (
            lambda: draw.recognizability_matrix(recognition(), ways=16, rule="x"),
            r"\(16 ways, x\) table has no rows",
        ),
        (
            lambda: draw.recognizability_matrix(recognition(), validity="not judged"),
            "it has: valid, failed",
        ),
        (
            lambda: draw.recognizability_matrix(recognition(), validity="vald"),
            "did you mean 'valid'",
        ),
        (
            lambda: draw.recognizability_matrix(pd.concat([recognition()] * 2)),
            "several rows for evaluator",
        ),
        (
            lambda: draw.recognizability_lines(curves().drop(columns="stage"), chance=0.1),
            "lacks the column.s. stage",
        ),
        (lambda: draw.recognizability_lines(recognition(), chance=0.1), "several rows for set"),
        (lambda: draw.epsilon_bars(restricted().drop(columns="n_paired")), "n_paired"),
        (
            lambda: draw.epsilon_bars(restricted(), validity="failed"),
            "of failed metamers to draw; it has: valid",
        ),
        (lambda: draw.quality_bars(quality().drop(columns="arrow")), "arrow"),
        (lambda: draw.quality_bars(quality(), validity="failed"), "no rows of failed metamers"),
        (lambda: draw.divergence_heatmap(divergences().drop(columns="null_95")), "null_95"),
        (lambda: draw.divergence_heatmap(divergences().assign(headline=False)), "it has: none"),
        (lambda: draw.set_differences(differences().drop(columns="p_fdr")), "p_fdr"),
        (lambda: draw.set_differences(differences().head(0)), "no rows"),
        (lambda: draw.observer_matrix(observers().drop(columns="self")), "self"),
        (lambda: draw.observer_bars(interaction().drop(columns="n_images")), "n_images"),
        (
            lambda: draw.example_sheet({}, *examples()[1:]),
            "no picture of the photograph.s. photo_000, photo_001",
        ),
        (lambda: draw.example_sheet(examples()[0], {}, examples()[2]), "early · photo_000"),
        (
            lambda: draw.example_sheet(*examples()[:2], examples()[2].assign(state="good")),
            "unknown state 'good'",
        ),
        (
            lambda: draw.example_sheet(*examples()[:2], examples()[2].drop(columns="state")),
            "lacks the column.s. state",
        ),
        (
            lambda: draw.example_sheet(
                {f"photo_{i:03d}": np.zeros((5, 5)) for i in range(4)}, *examples()[1:]
            ),
            r"shape \(3, height, width\), not \(5, 5\)",
        ),
    ],
)
def test_bad_tables_are_named(make: Callable[[], Figure], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


# -------------------------------------------------------------------------------------- real tables


@pytest.fixture(scope="module")
def real() -> dict[str, pd.DataFrame]:
    """Tables of the evaluation itself: three tiny networks, and noise instead of metamers."""
    size = Preprocessing(
        size=(48, 48), resize=48, interpolation="bilinear", mean=(0.0,) * 3, std=(1.0,) * 3
    )
    networks = []
    for seed, name in enumerate(("one", "two", "three")):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            network = nn.Sequential(
                nn.Conv2d(3, 2, 3, stride=4), nn.ReLU(), nn.Flatten(), nn.Linear(288, 1000)
            )
        stages = {"early": "1", "late": "3"}
        about = {"name": name, "weights": "w", "trained": name != "three"}
        classes = [f"class {i}" for i in range(1000)]
        networks.append(
            stage_model(network, stages=stages, preprocessing=size, class_names=classes, **about)
        )
    random = np.random.default_rng(0)
    images = random.random((6, 3, 48, 48)).astype(np.float32)
    ids = [f"photo{i}" for i in range(6)]
    photos = StimulusSet(
        images=images, table=pd.DataFrame({"id": ids, "kind": "RE", "reference_id": ids})
    )
    sets = []
    for setting, amount in (("unbounded", 0.2), ("linf 8/255 around start", 0.02)):
        moved = np.clip(images + amount * random.standard_normal(images.shape), 0, 1).astype(
            np.float32
        )
        for stage, valid in (("early", [True] * 5 + [False]), ("late", [False] * 6)):
            table = pd.DataFrame(
                {
                    "id": [f"{one}_m" for one in ids],
                    "kind": "MM",
                    "reference_id": ids,
                    "valid": valid,
                }
            )
            made = StimulusSet(images=moved, table=table)
            sets.append(
                metamer_set(photos, made, name="one", members=["one"], stage=stage, setting=setting)
            )
    hits = recognition_table(networks, sets, include_untrained=True)
    summary = recognition_summary(hits, n_resamples=50)
    scores = pd.DataFrame(
        {"members": ["a+b", "a", "b+c", "c", "a+c"], "score": [0.5, 0.4, 0.6, 0.7, 0.2]}
    )
    return {
        "recognition": summary,
        "curves": recognizability_curves(summary, ways=16),
        "epsilon": epsilon_comparison(hits, n_resamples=50),
        "quality": image_quality(sets[:2], n_resamples=20),
        "divergence": divergence(networks, sets, include_untrained=True, n_permutations=20),
        "differences": difference_in_means(
            scores.assign(set=list("vwxyz")), n_permutations=50, n_resamples=50
        ),
    }


def test_real_tables_are_drawn_as_they_are(real: dict[str, pd.DataFrame], tmp_path: Path) -> None:
    figure = draw.recognizability_matrix(real["recognition"], ways=16, rule="mean_prob")
    axes = figure.axes[0]
    assert framed(axes) == {("one", column) for column in range(4)}
    rows = real["recognition"]
    rows = rows[
        (rows["rule"] == "mean_prob")
        & (rows["validity"] == "valid")
        & (rows["setting"] == "unbounded")
    ]
    value = rows.set_index(["evaluator", "stage"])["value"]
    found = numbers(axes)
    assert found[AVERAGE, 0] == format_number(value[AVERAGE, "early"])
    assert (
        found["three (random weights)", 0] == format_number(value["three", "early"])
        and found["one", 2] == "–"
    )
    assert [found["valid of judged", column] for column in range(4)] == ["5/6", "5/6", "0/6", "0/6"]
    assert "excluded: no valid metamer of 6 (6 failed, 0 not judged)" in note(figure)
    lines = draw.recognizability_lines(real["curves"], chance=1 / 16)
    assert [axes.get_title().split("\n")[1] for axes in lines.axes[::2]] == [
        "valid metamers",
        "failed metamers",
    ] * 2
    heat = draw.divergence_heatmap(real["divergence"])
    assert framed(heat.axes[0]) == {("one", column) for column in range(4)}
    bars = draw.quality_bars(real["quality"])
    (skipped,) = next(axes for axes in bars.axes if axes.get_title() == "LPIPS ↓").texts
    assert (
        " ".join(skipped.get_text().split())
        == "skipped: weights missing; give a local file for lpips"
    )
    assert sum(
        not axes.axison for axes in bars.axes
    ) == 3 and "Scales. FID: 8-bit levels in" in note(bars)
    others = [draw.epsilon_bars(real["epsilon"]), draw.set_differences(real["differences"])]
    for name, one in zip("abcdef", [figure, lines, heat, bars, *others], strict=True):
        again = save_figure(one, tmp_path / name)
        assert all(path.stat().st_size > 5_000 for path in again)


def test_tables_read_from_files_give_the_same_figure(
    real: dict[str, pd.DataFrame], tmp_path: Path
) -> None:
    """A file turns truth values beside missing ones into text."""
    for name, make in {
        "recognition": draw.recognizability_matrix,
        "divergence": draw.divergence_heatmap,
        "quality": draw.quality_bars,
        "epsilon": draw.epsilon_bars,
    }.items():
        real[name].to_csv(tmp_path / "table.csv", index=False)
        back = make(pd.read_csv(tmp_path / "table.csv"))
        assert words(back) == words(make(real[name])), name
        assert framed(back.axes[0]) == framed(make(real[name]).axes[0])


# -------------------------------------------------------------------------------------------- names


def test_names_break_at_members_first_and_lose_nothing() -> None:
    assert wrap_name("squeezenet1_0+efficientnet_lite0", 1.3, 9).split("\n") == [
        "squeezenet1_0",
        "+efficientnet_lite0",
    ]
    for name in (LONG, "x" * 90, "a b/c_d", ""):
        broken = wrap_name(name, 0.8, 8)
        assert broken.replace("\n", "").replace(" ", "") == name.replace(" ", "")
        assert all(text_width(line, 8) <= 0.8 for line in broken.split("\n"))
    names = Names()
    assert names.fit("short", 1, 8, 1) == "short" and names.note == ""
    assert [names.fit(one, 0.5, 8, 2) for one in (LONG, "y" * 60, LONG)] == ["[1]", "[2]", "[1]"]
    assert names.note.startswith("[1] convnext_base.fb_in1k + resnet50") and names.note.endswith(
        "[2] " + "y" * 60
    )


def test_the_largest_letters_that_fit_are_taken() -> None:
    assert fit_size("alexnet", 2, 0.3, (9, 5))[1] == 9
    words_, size = fit_size("a " * 60, 1.0, 0.8, (9, 7, 5))
    assert size < 9 and (words_.count("\n") + 1) * size * 1.2 / 72 <= 0.8
    cut, _ = fit_size("word " * 500, 1.0, 0.5, (9, 5))
    assert cut.endswith("…")

"""Figures of RSA: the numbers of the tables, frames where the best is, one order everywhere,
nothing off the page.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import matplotlib
import matplotlib.colors
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from neurometamer.errors import InputError
from neurometamer.figures import rsa as draw
from neurometamer.figures.layout import percentile_rdm
from neurometamer.figures.style import HUES, format_number
from neurometamer.store import read_table

STAMP = "simulated cortex · untrained network (random weights)"
ROIS = ("LO", "V1", "FFA", "V2")
ORDER = ["V1", "V2", "LO", "FFA"]
PEOPLE = ("s1", "s2", "s3", "mean")
LAYERS = tuple(f"features.{i}" for i in range(6))


def product(**levels: tuple) -> pd.DataFrame:
    return pd.DataFrame(list(itertools.product(*levels.values())), columns=list(levels))


def kinds(
    system: str = "brain", people: tuple[str, ...] = PEOPLE, places: tuple[str, ...] = ROIS
) -> pd.DataFrame:
    quantities = {"RE-AN": "similarity", "RE-AI": "similarity", "RE-AI minus RE-AN": "difference"}
    table = product(representation=places, subject=people, pair=tuple(quantities))
    value = np.random.default_rng(0).uniform(0.05, 0.5, len(table))
    table = table.assign(
        value=value, ci_low=value - 0.1, ci_high=value + 0.15, p=0.001, p_corrected=0.2
    )
    table.loc[
        (table["representation"] == places[0]) & (table["pair"] != "RE-AN"), "p_corrected"
    ] = 0.01
    return table.assign(
        system=system,
        quantity=table["pair"].map(quantities),
        interval="stimuli",
        correction="fdr",
        family=f"{len(places)} ROIs",
        method="spearman; 95% percentile bootstrap over photographs",
        n=16,
        null_low=-0.12,
        null_high=0.14,
        ceiling_low=0.55,
        ceiling_high=0.7,
        ceiling="Nili 2014",
    )


def layer_roi(
    people: tuple[str, ...] = PEOPLE, layers: tuple[str, ...] = LAYERS, rois: tuple[str, ...] = ROIS
):
    table = product(subject=people, roi=rois, layer=layers)
    value = np.random.default_rng(1).uniform(-0.1, 0.5, len(table))
    return table.assign(
        kind="RE",
        similarity=value,
        p=0.001,
        q=np.where(value > 0.3, 0.01, 0.3),
        n=92,
        family=[f"24 tests of subject {one}" for one in table["subject"]],
        ceiling_low=0.41,
        ceiling_high=0.62,
        ceiling="Nili 2014, spearman",
    )


def best(people: tuple[str, ...] = PEOPLE) -> pd.DataFrame:
    table = product(subject=people, roi=ROIS)
    score = np.linspace(0.1, 0.4, len(table))
    return table.assign(
        kind="RE",
        layer="features.2",
        naive_layer="features.5",
        score=score,
        ci_low=score - 0.05,
        ci_high=score + 0.07,
        naive_score=score + 0.06,
        method="spearman; 5 folds",
        n=92,
    )


def models() -> tuple[pd.DataFrame, pd.DataFrame]:
    table = product(subject=PEOPLE, roi=ROIS, model=("average", "weighted", "best layer"))
    score = np.linspace(0.1, 0.4, len(table))
    contrast = product(
        subject=PEOPLE, roi=ROIS, contrast=("weighted minus best layer", "weighted minus average")
    )
    difference = np.linspace(-0.1, 0.1, len(contrast))
    table = table.assign(
        score=score, ci_low=score - 0.05, ci_high=score + 0.05, method="5 folds", n=92
    )
    return table, contrast.assign(
        difference=difference,
        ci_low=difference - 0.02,
        ci_high=difference + 0.02,
        q=np.where(difference > 0.05, 0.01, 0.6),
        family="4 tests of subject mean",
    )


def hierarchy() -> pd.DataFrame:
    preferred = {"s1": (1.2, 2.0, 5.1), "s2": (2.0, 1.3, 4.0), "combined": (1.6, 1.65, 4.55)}
    rows = [
        {
            "subject": who,
            "order": ["V1", "V2", "LO"],
            "statistic": "layers a region",
            "value": 0.5,
            "p": 0.167 if who == "combined" else np.nan,
            "left_out": '["V3"]',
            "preferred_layers": {
                roi: (at, f"conv {round(at)}; (x)") for roi, at in zip(("V1", "V2", "LO"), line)
            },
            "method": "slope",
        }
        for who, line in preferred.items()
    ]
    return pd.DataFrame(rows)


def rdms(n_rows: int = 2, n_columns: int = 3, n: int = 12) -> dict:
    values = np.random.default_rng(0).random((n_rows, n_columns, n, n))
    return {
        "matrices": values + np.swapaxes(values, -1, -2),
        "row_titles": [f"s{i}" for i in range(n_rows)],
        "column_titles": [f"features.{i}.expand" for i in range(n_columns)],
        "ids": [f"i{n - i:03}" for i in range(n)],
        "categories": ["face", "place", "body part"] * (n // 3),
    }


def points(n: int = 12) -> pd.DataFrame:
    given = rdms(n=n)
    table = draw.arrange_stimuli(given["matrices"][0, 0], given["ids"])
    return table.assign(category=given["categories"])


def pictures(ids: list[str]) -> dict[str, np.ndarray]:
    random = np.random.default_rng(2)
    return {one: random.random((3, 9, 7)) for one in ids}


def volume() -> tuple[np.ndarray, np.ndarray]:
    values = np.full((30, 36, 30), np.nan)
    values[5:25, 4:20, 6:20] = 0.1
    values[8:12, 6:10, 8:12] = 0.4
    return values, np.array([[-5.0, 0, 0, 75], [0, 5.0, 0, -110], [0, 0, 5.0, -60], [0, 0, 0, 1]])


def sphere() -> tuple[np.ndarray, np.ndarray]:
    from scipy.spatial import ConvexHull

    normal = np.random.default_rng(0).normal(size=(300, 3))
    found = 50 * normal / np.linalg.norm(normal, axis=1, keepdims=True)
    return found, ConvexHull(found).simplices


def scatter(stamp: str = "", n: int = 12, **options: object) -> Figure:
    table = points(n)
    return draw.stimulus_scatter(table, pictures(table["id"].tolist()), stamp=stamp, **options)


LONG = tuple(f"features.{i}.expand3x3_activation" for i in range(31))
MAKERS: dict[str, Callable[[str], Figure]] = {
    "kinds": lambda stamp: draw.image_type_bars(kinds(), stamp=stamp),
    "kinds, difference": lambda stamp: draw.image_type_bars(
        kinds(), quantity="difference", stamp=stamp
    ),
    "kinds, 31 layers": lambda stamp: draw.image_type_bars(
        kinds("network", ("",), LONG), system="network", stamp=stamp
    ),
    "kinds, one ROI": lambda stamp: draw.image_type_bars(
        kinds(people=("s1",), places=("V1",)), stamp=stamp
    ),
    "kinds, nothing": lambda stamp: draw.image_type_bars(
        kinds().assign(value=np.nan, ci_low=np.nan, ci_high=np.nan, ceiling_low=np.nan), stamp=stamp
    ),
    "layers": lambda stamp: draw.layer_roi_panels(layer_roi(), stamp=stamp),
    "layers, 31": lambda stamp: draw.layer_roi_panels(layer_roi(layers=LONG), stamp=stamp),
    "layers, one": lambda stamp: draw.layer_roi_panels(
        layer_roi(("s1",), rois=("V1",)), stamp=stamp
    ),
    "layers, 9 people": lambda stamp: draw.layer_roi_panels(
        layer_roi(tuple("abcdefghi"), rois=("V1",)), stamp=stamp
    ),
    "layers, nothing": lambda stamp: draw.layer_roi_panels(
        layer_roi().assign(similarity=np.nan), stamp=stamp
    ),
    "best": lambda stamp: draw.best_layer_marks(best(), stamp=stamp),
    "best, one": lambda stamp: draw.best_layer_marks(best(("s1",)), stamp=stamp),
    "best, nothing": lambda stamp: draw.best_layer_marks(
        best().assign(score=np.nan, naive_score=np.nan, ci_low=np.nan, ci_high=np.nan), stamp=stamp
    ),
    "models": lambda stamp: draw.model_marks(*models(), stamp=stamp),
    "models, alone": lambda stamp: draw.model_marks(models()[0], stamp=stamp),
    "hierarchy": lambda stamp: draw.hierarchy_lines(hierarchy(), stamp=stamp),
    "hierarchy, 31": lambda stamp: draw.hierarchy_lines(hierarchy(), layers=LONG, stamp=stamp),
    "hierarchy, nothing": lambda stamp: draw.hierarchy_lines(
        hierarchy().assign(preferred_layers=""), stamp=stamp
    ),
    "rdms": lambda stamp: draw.banded_rdms(**rdms(), stamp=stamp),
    "rdms, 31": lambda stamp: draw.banded_rdms(**rdms(1, 31, 99), stamp=stamp),
    "rdms, nothing": lambda stamp: draw.banded_rdms(
        **rdms(1, 1) | {"matrices": np.full((1, 1, 12, 12), np.nan)}, stamp=stamp
    ),
    "scatter": scatter,
    "scatter, signs": lambda stamp: scatter(stamp, 30, limit=7),
    "scatter, nothing": lambda stamp: draw.stimulus_scatter(
        points().assign(x=np.nan), {}, stamp=stamp
    ),
    "native": lambda stamp: draw.searchlight_volume(*volume(), title="RE-AI", stamp=stamp),
    "native, nothing": lambda stamp: draw.searchlight_volume(
        volume()[0] * np.nan, volume()[1], stamp=stamp
    ),
    "glass": lambda stamp: draw.searchlight_volume(
        *volume(), space="MNI", title="RE-AI", stamp=stamp
    ),
    "glass, nothing": lambda stamp: draw.searchlight_volume(
        volume()[0] * np.nan, volume()[1], space="MNI", stamp=stamp
    ),
    "mesh": lambda stamp: draw.searchlight_surface(
        np.linspace(0, 1, 300), *sphere(), hemisphere="left", title="RE-AI", stamp=stamp
    ),
    "mesh, nothing": lambda stamp: draw.searchlight_surface(
        np.full(300, np.nan), *sphere(), hemisphere="right", stamp=stamp
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
            found += [axes.xaxis.label, axes.yaxis.label]
            for axis, ends in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
                inside = [
                    one
                    for one in axis.get_major_ticks()
                    if min(ends) - 1e-9 <= one.get_loc() <= max(ends) + 1e-9
                ]
                found += [label for tick in inside for label in (tick.label1, tick.label2)]
    return [text for text in found if text.get_visible() and text.get_text()]


def words(figure: Figure) -> list[str]:
    return [text.get_text() for text in drawn(figure)]


def note(figure: Figure) -> str:
    return " ".join(max((text.get_text() for text in figure.texts), key=len).split())


def frames(axes: Axes) -> set[tuple[int, int]]:
    """Columns and rows of the framed cells."""
    found = [
        patch for patch in axes.patches if isinstance(patch, Rectangle) and not patch.get_fill()
    ]
    return {(round(patch.get_center()[0]), round(patch.get_center()[1])) for patch in found}


# ------------------------------------------------------------------------------------- every figure


@pytest.mark.parametrize("name", MAKERS)
def test_text_is_on_the_page_and_the_stamp_on_nothing(name: str) -> None:
    figure = MAKERS[name](STAMP)
    figure.draw_without_rendering()
    found = drawn(figure)
    boxes = np.array([text.get_window_extent().extents for text in found])
    for text, box in zip(found, boxes, strict=True):
        assert box[:2].min() >= -1 and (box[2:] <= figure.bbox.max + 1).all(), text.get_text()
    (stamp,) = [text for text in figure.texts if text.get_text() == STAMP.upper()]
    others = [one.get_window_extent() for one in found if one is not stamp]
    others += [axes.get_window_extent() for axes in figure.axes if axes.axison or axes.name == "3d"]
    assert not any(stamp.get_window_extent().overlaps(other) for other in others)
    assert STAMP.upper() not in words(MAKERS[name](""))


@pytest.mark.parametrize(
    "name", [name for name in MAKERS if not name.startswith(("scatter", "glass"))]
)
def test_no_text_lies_on_other_text(name: str) -> None:
    figure = MAKERS[name](STAMP)
    figure.draw_without_rendering()
    found = drawn(figure)
    boxes = np.array([text.get_window_extent().extents for text in found])
    low, high = boxes[:, :2] + 1, boxes[:, 2:] - 1
    apart = (low[:, None] >= high[None]).any(axis=2) | (high[:, None] <= low[None]).any(axis=2)
    assert not [(found[i].get_text(), found[j].get_text()) for i, j in np.argwhere(~apart) if i < j]


@pytest.mark.parametrize("name", [name for name in MAKERS if "," not in name])
def test_equal_input_gives_equal_files_and_touches_nothing_global(
    name: str, tmp_path: Path
) -> None:
    import matplotlib.pyplot

    before = dict(matplotlib.rcParams)
    one, two = (
        draw.save_figure_and_table(MAKERS[name](STAMP), tmp_path / which, best())
        for which in ("one.0", "two")
    )
    assert [path.name for path in one] == ["one.0.svg", "one.0.png", "one.0.csv"]
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]
    assert dict(matplotlib.rcParams) == before and not matplotlib.pyplot.get_fignums()
    assert read_table(one[2])["score"].tolist() == best()["score"].tolist()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: draw.image_type_bars(kinds().drop(columns="pair")), "lacks the column.s. pair"),
        (lambda: draw.image_type_bars(kinds(), system="network"), "network.*no rows"),
        (lambda: draw.image_type_bars(kinds(), quantity="ratio"), "ratio"),
        (
            lambda: draw.image_type_bars(pd.concat([kinds(), kinds()])),
            "several rows for representation 'LO'",
        ),
        (lambda: draw.layer_roi_panels(layer_roi().drop(columns="layer")), "column.s. layer"),
        (lambda: draw.layer_roi_panels(layer_roi(), image_type="AN"), "AN"),
        (
            lambda: draw.layer_roi_panels(pd.concat([layer_roi(), layer_roi().assign(kind="AI")])),
            "image types RE, AI",
        ),
        (lambda: draw.best_layer_marks(best().drop(columns="naive_score")), "naive_score"),
        (lambda: draw.model_marks(models()[0].drop(columns="model")), "model"),
        (
            lambda: draw.model_marks(models()[0], models()[1].drop(columns="contrast")),
            "differences.*contrast",
        ),
        (lambda: draw.hierarchy_lines(hierarchy().drop(columns="order")), "order"),
        (
            lambda: draw.hierarchy_lines(hierarchy().assign(preferred_layers="V1 likes all")),
            "V1 likes all",
        ),
        (lambda: draw.banded_rdms(**rdms() | {"row_titles": ["a"]}), "1 row titles"),
        (lambda: draw.banded_rdms(**rdms() | {"ids": ["a"] * 12}), "named twice: a"),
        (lambda: draw.banded_rdms(**rdms(), category_order=["face"]), "place"),
        (
            lambda: draw.banded_rdms(
                **rdms() | {"matrices": np.arange(864.0).reshape(2, 3, 12, 12)}
            ),
            "symmetric: s0",
        ),
        (lambda: draw.stimulus_scatter(points().drop(columns="x"), {}), "column.s. x"),
        (lambda: draw.stimulus_scatter(points(), {}), "no image of i00"),
        (lambda: draw.arrange_stimuli(np.ones((3, 3)), ["a", "b", "c"]), "at least 4"),
        (lambda: draw.arrange_stimuli(np.zeros((4, 4)), list("abcd")), "nothing to arrange"),
        (
            lambda: draw.arrange_stimuli(np.full((4, 4), np.nan), list("abcd")),
            "no dissimilarity of a and b",
        ),
        (lambda: draw.arrange_stimuli(np.ones((4, 4)), list("abcd"), method="umap"), "umap"),
        (
            lambda: draw.arrange_stimuli(
                np.ones((4, 4)), list("abcd"), method="tsne", perplexity=9
            ),
            "perplexity",
        ),
        (lambda: draw.searchlight_volume(np.ones(3), np.eye(4)), "i, j, k"),
        (lambda: draw.searchlight_volume(np.ones((2, 2, 2)), np.zeros((4, 4))), "invertible"),
        (lambda: draw.searchlight_volume(*volume(), space="talairach"), "talairach"),
        (lambda: draw.searchlight_volume(*volume(), p_family=np.ones(3)), "p_family"),
        (lambda: draw.searchlight_surface(np.ones(3), *sphere(), hemisphere="left"), "3 values"),
        (lambda: draw.searchlight_surface(np.ones(300), *sphere(), hemisphere="both"), "both"),
        (
            lambda: draw.searchlight_surface(
                np.ones(300), *sphere(), hemisphere="left", views=("up",)
            ),
            "up",
        ),
    ],
)
def test_bad_input_is_named(make: Callable[[], Figure], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


# -------------------------------------------------------------------------------------------- kinds


def test_kind_bars_are_the_mean_rows_and_marks_the_subjects() -> None:
    table = kinds()
    figure = draw.image_type_bars(table)
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ORDER
    for container, pair in zip(axes.containers, ("RE-AN", "RE-AI"), strict=True):
        own = table[(table["pair"] == pair) & (table["subject"] == "mean")].set_index(
            "representation"
        )["value"]
        np.testing.assert_allclose([bar.get_height() for bar in container], own[ORDER])
    marks = [line for line in axes.lines if line.get_linestyle() == "None"]
    assert [line.get_marker() for line in marks] == ["o", "s", "^"] * 2
    s2 = table[(table["pair"] == "RE-AN") & (table["subject"] == "s2")].set_index("representation")[
        "value"
    ]
    np.testing.assert_allclose(marks[1].get_ydata(), s2[ORDER])
    # only LO, the third place, and only the right bar is below .05 after correction
    stars = [text for text in axes.texts if text.get_text() == "*"]
    assert len(stars) == 1 and 2 < stars[0].xy[0] < 2.5
    assert "*: corrected p < .05 (fdr, over 4 ROIs)" in note(figure)
    assert "interval (stimuli)" in note(figure) and "Noise ceiling: Nili 2014" in note(figure)


def test_bands_of_null_and_ceiling_are_where_the_table_says() -> None:
    figure = draw.image_type_bars(kinds())
    ends = {
        (round(patch.get_y(), 3), round(patch.get_y() + patch.get_height(), 3))
        for patch in figure.axes[0].patches
        if patch.get_zorder() == 1
    }
    assert ends == {(-0.12, 0.14), (0.55, 0.7)}
    assert {"95 % of the permutation null", "noise ceiling"} <= set(words(figure))
    one_sided = draw.image_type_bars(
        kinds().drop(columns=["null_low", "null_high"]).assign(null_95=0.2)
    )
    assert "95 % of the permutation null lie below the upper edge" in words(one_sided)
    assert "noise ceiling" not in words(draw.image_type_bars(kinds(), quantity="difference"))


def test_what_is_computed_here_or_not_corrected_is_told() -> None:
    table = kinds(("brain"), ("s1", "s2")).drop(columns=["p_corrected"])
    figure = draw.image_type_bars(table)
    own = table[(table["pair"] == "RE-AI") & (table["representation"] == "V1")]["value"]
    assert figure.axes[0].containers[1][0].get_height() == pytest.approx(own.mean())
    assert "computed for this figure, without interval" in note(figure)
    assert not [text for text in figure.axes[0].texts if text.get_text() == "*"]
    alone = draw.image_type_bars(kinds(people=("s1",)).drop(columns="p_corrected"))
    assert "P is not corrected in this table, so none is marked" in note(alone)


# ------------------------------------------------------------------------------------ layers x ROIs


def test_each_panel_has_its_numbers_frames_and_marks() -> None:
    table = layer_roi()
    figure = draw.layer_roi_panels(table)
    panels = [axes for axes in figure.axes if axes.get_title()]
    assert [axes.get_title() for axes in panels] == ["mean of 3 subjects", "s1", "s2", "s3"]
    for axes, subject in zip(panels, ("mean", "s1", "s2", "s3"), strict=True):
        assert [label.get_text() for label in axes.get_xticklabels()] == ORDER
        own = table[table["subject"] == subject].set_index(["layer", "roi"])
        cells = {
            tuple(np.round(text.get_position()).astype(int)): text.get_text() for text in axes.texts
        }
        for (row, layer), (column, roi) in itertools.product(enumerate(LAYERS), enumerate(ORDER)):
            value, q = own.loc[(layer, roi), ["similarity", "q"]]
            assert cells[column, row] == format_number(value) + "*" * (q < 0.05)
        top = (
            own["similarity"]
            .unstack("roi")
            .reindex(index=LAYERS, columns=ORDER)
            .to_numpy()
            .argmax(axis=0)
        )
        assert frames(axes) == set(enumerate(top))
        assert [cells[column, len(LAYERS)] for column in range(4)] == [".62"] * 4
        assert [cells[column, len(LAYERS) + 1] for column in range(4)] == [".41"] * 4
    assert "Benjamini-Hochberg, over 24 tests of each subject" in note(figure)


def test_a_layer_without_value_is_neither_marked_nor_best() -> None:
    table = layer_roi(("s1",))
    lost = (table["layer"] == LAYERS[2]) & (table["roi"] == "V1")
    figure = draw.layer_roi_panels(table.assign(similarity=table["similarity"].mask(lost), q=0.01))
    cells = {
        tuple(np.round(text.get_position()).astype(int)): text.get_text()
        for text in figure.axes[0].texts
    }
    assert (
        cells[0, 2] == "–"
        and (0, 2) not in frames(figure.axes[0])
        and "–: no value" in note(figure)
    )


# ------------------------------------------------------------------------------------ models, order


def test_best_layers_stand_naive_beside_cross_validated() -> None:
    table = best()
    figure = draw.best_layer_marks(table)
    axes, own = figure.axes[0], table[table["subject"] == "mean"].set_index("roi").loc[ORDER]
    large = [line for line in axes.lines if line.get_markersize() == 8]
    np.testing.assert_allclose(large[0].get_ydata(), own["naive_score"])
    np.testing.assert_allclose(large[1].get_ydata(), own["score"])
    assert (np.asarray(large[0].get_xdata()) < np.asarray(large[1].get_xdata())).all()
    assert large[0].get_markerfacecolor() == "white" and len(axes.lines) == 2 + 3 * 4 + 1
    assert axes.get_xticklabels()[0].get_text() == "V1\nfeatures.2\n(features.5)"


def test_models_are_in_one_order_with_their_differences_below() -> None:
    table, contrasts = models()
    figure = draw.model_marks(table, contrasts)
    assert words(figure)[1:6] == [
        "weighted",
        "best layer",
        "average",
        "weighted minus best layer",
        "weighted minus average",
    ]
    large = [line for line in figure.axes[0].lines if line.get_markersize() == 8]
    assert [line.get_marker() for line in large] == ["s", "^", "D"]
    own = (
        table[(table["subject"] == "mean") & (table["model"] == "weighted")]
        .set_index("roi")
        .loc[ORDER]
    )
    np.testing.assert_allclose(large[0].get_ydata(), own["score"])
    low = contrasts[contrasts["subject"] == "mean"]
    assert (
        sum(text.get_text() == "*" for text in figure.axes[1].texts) == (low["q"] < 0.05).sum() > 0
    )


def test_hierarchy_is_read_from_its_table() -> None:
    figure = draw.hierarchy_lines(hierarchy())
    lines = figure.axes[0].lines
    np.testing.assert_allclose(
        [line.get_ydata() for line in lines], [(1.2, 2, 5.1), (2, 1.3, 4), (1.6, 1.65, 4.55)]
    )
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["V1", "V2", "LO"]
    assert "conv 5; (x)  5" in words(figure)
    assert "combined: .50 layers a region, p = .167" in words(figure)
    assert "s1: .50 layers a region" in words(figure) and "nan" not in words(figure)
    assert "Not reliable, left out: V3" in note(figure)


# ---------------------------------------------------------------------------- RDMs and arrangements


def test_rdms_are_ordered_by_category_then_id_in_every_panel() -> None:
    given = rdms()
    figure = draw.banded_rdms(**given)
    names = [name for _, name in sorted(zip(given["categories"], given["ids"]))]
    order = [given["ids"].index(name) for name in names]
    assert draw.stimulus_order(given["ids"], given["categories"]).tolist() == order
    images = figure.axes[0].images
    assert len(images) == 6
    for image, rdm in zip(images, given["matrices"].reshape(6, 12, 12), strict=True):
        wanted = rdm[np.ix_(order, order)][np.triu_indices(12, 1)]
        shown = image.get_array().filled(np.nan)[np.triu_indices(12, 1)]
        assert (
            (np.argsort(wanted) == np.argsort(shown)).all()
            and shown.min() == 0
            and shown.max() == 100
        )
    assert {"body part (4)", "face (4)", "place (4)"} <= set(words(figure))
    shuffled = np.random.default_rng(0).permutation(12)
    moved = given | {"matrices": given["matrices"][:, :, shuffled][..., shuffled]}
    moved |= {one: [given[one][i] for i in shuffled] for one in ("ids", "categories")}
    again = draw.banded_rdms(**moved).axes[0].images
    assert all((a.get_array() == b.get_array()).all() for a, b in zip(images, again, strict=True))


def test_stimuli_of_a_category_can_be_sorted_by_something_else_than_their_ids() -> None:
    given = rdms(1, 1)
    keys = [f"{99 - rank:02d}" for rank in range(len(given["ids"]))]
    figure = draw.banded_rdms(**given, within=keys)
    order = draw.stimulus_order(keys, given["categories"])
    shown = figure.axes[0].images[0].get_array().filled(np.nan)
    np.testing.assert_array_equal(
        shown, percentile_rdm(given["matrices"][0, 0][np.ix_(order, order)])
    )
    assert "then as given" in note(figure) and "then by id" in note(draw.banded_rdms(**given))


def test_narrow_bands_have_all_signs_or_none() -> None:
    given = rdms(1, 1)
    kinds = [("RE", "AN", "AI")[rank % 3] for rank in range(len(given["ids"]))]
    axes = draw.banded_rdms(**given | {"categories": kinds}).axes[0]
    left, _, bottom, _ = axes.images[0].get_extent()
    signs = [
        text
        for text in axes.texts
        if text.get_fontweight() == "bold" and text.get_fontsize() == 6.5
    ]
    assert not [
        one.get_text()
        for one in signs
        if one.get_position()[0] < left and one.get_position()[1] < bottom
    ]


def test_axes_end_where_drawn_marks_end() -> None:
    table = kinds()
    wide = table.assign(ci_low=np.where(table["subject"] == "mean", table["ci_low"], -9))
    assert (
        draw.image_type_bars(wide).axes[0].get_ylim()
        == draw.image_type_bars(table).axes[0].get_ylim()
    )
    rows = best()
    wide = rows.assign(ci_high=np.where(rows["subject"] == "mean", rows["ci_high"], 9))
    assert (
        draw.best_layer_marks(wide).axes[0].get_ylim()
        == draw.best_layer_marks(rows).axes[0].get_ylim()
    )


def test_families_of_subjects_and_contrasts_are_named_once() -> None:
    table, differences = models()
    family = [
        f"5 tests of subject {s}, contrast {c}"
        for s, c in zip(differences["subject"], differences["contrast"])
    ]
    told = note(draw.model_marks(table, differences.assign(q=0.01, family=family)))
    assert "over 5 tests of each subject, each contrast)" in told


def test_bars_of_categories_cover_their_stimuli_and_differ_in_sign_and_color() -> None:
    figure = draw.banded_rdms(**rdms(1, 1), category_order=["place", "face", "body part"])
    axes, image = figure.axes[0], figure.axes[0].images[0]
    left, right = image.get_extent()[:2]
    above = [one for one in axes.patches if abs(one.get_height() - 0.12) < 1e-9]
    np.testing.assert_allclose(
        [one.get_x() for one in above], left + (right - left) * np.arange(3) / 3
    )
    assert len({one.get_facecolor() for one in above}) == 3
    signs = [text.get_text() for text in axes.texts]
    assert signs[:6] == ["A", "A", "B", "B", "C", "C"]


def test_pairs_behind_the_maps_are_all_there() -> None:
    given = rdms()
    table = draw.rdm_pairs(
        **{one: given[one] for one in ("matrices", "row_titles", "column_titles", "ids")}
    )
    assert len(table) == 6 * 66
    row = table[(table["row"] == "s1") & (table["column"] == "features.2.expand")].iloc[0]
    assert (row["first"], row["second"]) == ("i012", "i011")
    assert row["dissimilarity"] == given["matrices"][1, 2, 0, 1]


@pytest.mark.parametrize("method", ["mds", "tsne"])
def test_arrangements_do_not_depend_on_the_order_of_stimuli(method: str) -> None:
    given = rdms(n=30)
    rdm, order = given["matrices"][0, 0], np.random.default_rng(5).permutation(30)
    one = draw.arrange_stimuli(rdm, given["ids"], method=method).set_index("id")
    two = draw.arrange_stimuli(
        rdm[np.ix_(order, order)], [given["ids"][i] for i in order], method=method
    )
    two = two.set_index("id").loc[one.index]
    np.testing.assert_array_equal(one[["x", "y"]], two[["x", "y"]])


def test_scaling_finds_points_that_lie_in_a_plane_and_turns_them() -> None:
    from scipy.spatial.distance import pdist, squareform

    wanted = np.random.default_rng(3).normal(size=(15, 2)) * [4, 1]
    table = draw.arrange_stimuli(squareform(pdist(wanted)), [f"p{i:02}" for i in range(15)])
    found = table[["x", "y"]].to_numpy()
    np.testing.assert_allclose(pdist(found), pdist(wanted), atol=2e-2)
    assert table["score"].iloc[0] < 5e-3 and found[:, 0].std() > found[:, 1].std()
    assert abs(np.corrcoef(found.T)[0, 1]) < 1e-6
    for axis in found.T:
        assert axis[np.abs(axis) >= 0.1 * np.abs(axis).max()][0] > 0


def test_scatter_counts_what_it_does_not_show_as_images() -> None:
    figure = scatter(n=30, limit=7)
    assert len(figure.axes[0].images) == 7
    assert "7 of 30 stimuli are drawn as images" in note(figure)
    table = points().assign(n_negative=3)
    table.loc[0, "x"] = np.nan
    figure = draw.stimulus_scatter(table, pictures(table["id"].tolist()))
    assert "3 negative dissimilarities" in note(figure) and "1 stimuli without a place" in note(
        figure
    )
    assert f"stress-1 {format_number(table['score'].iloc[0])}" in note(figure)


@pytest.mark.data
def test_92_images_stand_where_their_dissimilarities_place_them(shared_data: Path) -> None:
    import h5py
    from PIL import Image

    labels = pd.read_csv(shared_data / "images92" / "labels.csv")
    ids = [Path(one).stem for one in labels["file"]]
    with h5py.File(shared_data / "rdms92.h5") as file:
        rdm = file["cichy2014/IT"][:].mean(axis=0)
    images = {
        one: np.moveaxis(
            np.asarray(Image.open(shared_data / "images92" / f"{one}.png").convert("RGB")) / 255,
            -1,
            0,
        )
        for one in ids
    }
    table = draw.arrange_stimuli(rdm, ids).assign(category=labels["category"].to_numpy())
    figure = draw.stimulus_scatter(table, images)
    assert len(figure.axes[0].images) == 92 and "human face (12)" in words(figure)
    # IT of people: human faces lie together
    spot, is_face = table[["x", "y"]].to_numpy(), (table["category"] == "human face").to_numpy()
    assert spot[is_face].std(axis=0).sum() < 0.5 * spot[~is_face].std(axis=0).sum()
    # an image's frame is around it, in the color of its category, and images keep the places of the
    # table
    rows = table.iloc[draw.stimulus_order(ids, table["category"].tolist())]
    corners = np.array(
        [[image.get_extent()[0], -image.get_extent()[3]] for image in figure.axes[0].images]
    )
    wanted = rows[["x", "y"]].to_numpy()
    scale = np.ptp(corners[:, 0]) / np.ptp(wanted[:, 0])
    np.testing.assert_allclose(
        corners - corners.mean(axis=0), scale * (wanted - wanted.mean(axis=0)), atol=1e-6
    )
    outline = [one for one in figure.axes[0].patches if not one.get_fill()]
    order = sorted(rows["category"].unique())
    for patch, corner, category in zip(outline, corners, rows["category"], strict=True):
        np.testing.assert_allclose([patch.get_x(), -patch.get_y()], corner)
        assert patch.get_edgecolor() == matplotlib.colors.to_rgba(HUES[order.index(category)])


# --------------------------------------------------------------------------------------------- maps


def test_volume_shows_what_passes_the_test_and_says_so() -> None:
    values, affine = volume()
    p = np.where(values > 0.3, 0.01, 0.5)
    figure = draw.searchlight_volume(values, affine, p_family=p)
    assert "family-wise p < .05 (64 of 4480 places, .40 to .40)" in note(
        figure
    ) and "own space" in note(figure)
    sides = [axes for axes in figure.axes if len(axes.images) == 2]
    assert len(sides) == 3
    from_right, from_behind, from_above = (
        axes.images[1].get_array().filled(np.nan) for axes in sides
    )
    assert [np.isfinite(one).sum() for one in (from_right, from_behind, from_above)] == [16, 16, 16]
    # the affine turns the first axis: what is at low i is right
    assert np.flatnonzero(np.isfinite(from_above).any(axis=0)).min() > from_above.shape[1] / 2
    plain = draw.searchlight_volume(values, affine)
    assert "Not tested: no p came with this map" in note(plain)
    limited = draw.searchlight_volume(values, affine, threshold=0.2, space="MNI")
    assert "similarity of at least .20 (64 of 4480" in note(limited) and "MNI" in note(limited)


def test_numbers_behind_a_map() -> None:
    values, affine = volume()
    table = draw.map_table(values, affine, p_family=np.full(values.shape, 0.2))
    assert len(table) == 4480 and set(table["p_family"]) == {0.2}
    row = table[(table["i"] == 8) & (table["j"] == 6) & (table["k"] == 8)].iloc[0]
    assert (row["x"], row["y"], row["z"], row["value"]) == (35, -80, -20, 0.4)
    assert draw.map_table(np.array([0.1, np.nan, 0.3]))["vertex"].tolist() == [0, 2]


def test_mesh_tells_views_test_and_places() -> None:
    values = np.linspace(0, 0.9, 300)
    figure = draw.searchlight_surface(
        values,
        *sphere(),
        hemisphere="right",
        p_family=np.where(values > 0.6, 0.001, 0.9),
        views=("lateral", "medial"),
    )
    assert [axes.name for axes in figure.axes].count("3d") == 2 and {"lateral", "medial"} <= set(
        words(figure)
    )
    assert f"family-wise p < .05 ({(values > 0.6).sum()} of 300 places" in note(
        figure
    ) and "right" in note(figure)

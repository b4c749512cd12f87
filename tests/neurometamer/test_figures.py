"""Figures: what is drawn is what came in; nothing overlaps or leaves without its stamp."""

from __future__ import annotations

import itertools
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from scipy.stats import rankdata

from neurometamer.figures import study as figures
from neurometamer.figures.style import clip_name, format_number, order_places
from neurometamer.store import InputError

LAYERS = (*(f"features.{i}" for i in range(11)), "classifier_with_a_name")
ROIS = ("LO", "V1", "FFA", "V2")
STAMP = "simulated cortex · untrained network (random weights)"


def similarity(subjects: tuple[str, ...] = ("s1", "s2", "s3")) -> pd.DataFrame:
    keys = [("network", "", layer) for layer in LAYERS] + [("brain", s, r) for s in subjects for r in ROIS]
    rows = [(*key, pair) for key in keys for pair in ("RE-AN", "RE-AI")]
    table = pd.DataFrame(rows, columns=["system", "subject", "place", "pair"])
    value = np.linspace(-0.2, 0.6, len(table))
    # An interval that does not hold its estimate, as a bootstrap may give: must be drawn, not refused.
    return table.assign(similarity=value, ci_low=value + 0.01, ci_high=value + 0.2, method="bootstrap", n=16)


def layer_roi(subjects: tuple[str, ...] = ("s1", "s2", "mean")) -> pd.DataFrame:
    rows = list(itertools.product(("RE", "AN"), subjects, ROIS, LAYERS))
    table = pd.DataFrame(rows, columns=["kind", "subject", "roi", "layer"])
    value = np.random.default_rng(1).uniform(-0.1, 0.5, len(table))
    bounds = {"ci_low": value - 0.1, "ci_high": value + 0.1, "ceiling_low": 0.4, "ceiling_high": 0.6}
    return table.assign(similarity=value, **bounds, ceiling="Nili", method="bootstrap", n=16)


def encoding() -> pd.DataFrame:
    rows = list(itertools.product(("s1", "s2"), ROIS, LAYERS, ("RE", "AI", "AN")))
    table = pd.DataFrame(rows, columns=["subject", "roi", "layer", "test"])
    return table.assign(r=np.linspace(-0.1, 0.4, len(table)), method="Pearson")


def sheet(n: int = 4, limit: int = 16, stamp: str = "") -> Figure:
    rows = [
        {"id": f"p{i}{end}", "kind": end[1:] or "RE", "reference_id": f"p{i}", "top1_name": "espresso maker, coffee",
         "target_name": "missile", "confidence_png": 0.9912, "success": not (i == 1 and end == "_AI")}
        for i in range(n) for end in ("", "_AN", "_AI") if (i, end) != (0, "_AN")
    ]  # fmt: skip
    images = np.random.default_rng(0).random((len(rows), 3, 6, 5))
    return figures.stimulus_sheet(images, pd.DataFrame(rows), limit=limit, stamp=stamp)


def heatmaps(stamp: str = "", n_columns: int = 9, n: int = 5) -> Figure:
    matrices = np.random.default_rng(0).random((3, n_columns, n, n))
    matrices += np.swapaxes(matrices, -1, -2)
    return figures.rdm_heatmaps(
        matrices,
        row_titles=("RE", "AN", "AI"),
        column_titles=LAYERS[:n_columns],
        conditions=[f"photo {i}" for i in range(n)],
        stamp=stamp,
    )


MAKERS = {
    "stimulus_sheet": lambda stamp: sheet(stamp=stamp),
    "rdm_heatmaps": heatmaps,
    "similarity_bars, brain": lambda stamp: figures.similarity_bars(similarity(), stamp=stamp),
    "similarity_bars, network": lambda stamp: figures.similarity_bars(similarity(), system="network", stamp=stamp),
    "layer_roi_matrix": lambda stamp: figures.layer_roi_matrix(layer_roi(), stamp=stamp),
    "layer_roi_lines": lambda stamp: figures.layer_roi_lines(layer_roi(), stamp=stamp),
    "encoding_bars": lambda stamp: figures.encoding_bars(encoding(), stamp=stamp),
}


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text) if text.get_visible()]


@pytest.mark.parametrize("name", MAKERS)
def test_stamp_is_drawn_inside_the_page_and_over_no_data(name: str) -> None:
    figure = MAKERS[name](STAMP)
    figure.draw_without_rendering()
    stamps = [text for text in figure.findobj(Text) if text.get_text() == STAMP.upper()]
    assert len(stamps) == 1
    box = stamps[0].get_window_extent()
    page = figure.bbox
    assert page.x0 <= box.x0 and box.x1 <= page.x1 and box.y1 <= page.y1
    for axes in figure.axes:
        tight = axes.get_tightbbox()
        assert tight is None or not box.overlaps(tight)
    for legend in figure.legends:
        assert not box.overlaps(legend.get_window_extent())
    assert STAMP.upper() not in texts(MAKERS[name](""))


def out_of_view(axes: Axes) -> list[Text]:
    """Labels of ticks beyond the axis: matplotlib keeps them, but does not draw them."""
    low, high = sorted(axes.get_ylim())
    return [tick.label1 for tick in axes.yaxis.get_major_ticks() if not low <= tick.get_loc() <= high] + [
        tick.label2 for tick in axes.yaxis.get_major_ticks() if not low <= tick.get_loc() <= high
    ]


@pytest.mark.parametrize("name", MAKERS)
def test_text_stays_on_the_page_and_tick_names_do_not_touch(name: str) -> None:
    figure = MAKERS[name](STAMP)
    figure.draw_without_rendering()
    unseen = [label for axes in figure.axes for label in out_of_view(axes)]
    for text in figure.findobj(Text):
        if text.get_visible() and text.get_text() and text not in unseen:
            box = text.get_window_extent()
            assert box.x0 >= -1 and box.x1 <= figure.bbox.x1 + 1, text.get_text()
            assert box.y0 >= -1 and box.y1 <= figure.bbox.y1 + 1, text.get_text()
    for axes in figure.axes:
        labels = [label for label in axes.get_xticklabels() if label.get_text()]
        if not any(label.get_rotation() for label in labels):
            boxes = [label.get_window_extent() for label in labels]
            assert not any(a.overlaps(b) for a, b in itertools.pairwise(boxes))


def test_saving_is_deterministic_and_leaves_matplotlib_as_it_was(tmp_path: Path) -> None:
    before = dict(matplotlib.rcParams)
    first = figures.save_figure(MAKERS["layer_roi_matrix"](STAMP), tmp_path / "one.0")
    again = figures.save_figure(MAKERS["layer_roi_matrix"](STAMP), tmp_path / "two")
    assert [path.name for path in first] == ["one.0.svg", "one.0.png"]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in again]
    assert b"<dc:date>" not in first[0].read_bytes()
    assert dict(matplotlib.rcParams) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.0.png", "one.0.svg", "two.png", "two.svg"]


def test_a_users_matplotlibrc_changes_nothing(tmp_path: Path) -> None:
    plain = figures.save_figure(MAKERS["encoding_bars"](""), tmp_path / "plain")[0].read_bytes()
    with matplotlib.rc_context({"axes.facecolor": "black", "font.size": 30, "svg.fonttype": "none"}):
        assert figures.save_figure(MAKERS["encoding_bars"](""), tmp_path / "own")[0].read_bytes() == plain


def test_sheet_names_classes_confidence_failures_and_gaps() -> None:
    shown = texts(sheet())
    assert sum(text == "espresso maker\n✗ p(target) = .991" for text in shown) == 1
    assert sum(text == "espresso maker\np = .991" for text in shown) == 10
    assert shown.count("none") == 1
    assert not any("shown" in text for text in shown)


def test_long_sheet_says_how_many_are_missing() -> None:
    figure = sheet(n=45, limit=16)
    assert any("16 of 45 photographs are shown, 29 are not" in text for text in texts(figure))
    assert {"p0", "p15"} <= set(texts(figure)) and "p16" not in texts(figure)


@pytest.mark.parametrize("n_columns", [1, 5, 6, 9, 12])
def test_every_rdm_has_its_place(n_columns: int) -> None:
    figure = heatmaps(n_columns=n_columns)
    figure.draw_without_rendering()
    images = [image for axes in figure.axes[:1] for image in axes.images]
    assert len(images) == 3 * n_columns
    boxes = [image.get_window_extent() for image in images]
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))
    wanted = np.random.default_rng(0).random((3, n_columns, 5, 5))
    wanted += np.swapaxes(wanted, -1, -2)
    for (row, column), image, box in zip(np.ndindex(3, n_columns), images, boxes, strict=True):
        np.testing.assert_array_equal(image.get_array().filled(np.nan), figures.percentile_rdm(wanted[row, column]))
        if row == 0:
            title = next(text for text in figure.findobj(Text) if text.get_text() == LAYERS[column])
            above = title.get_window_extent()
            assert box.x0 - 5 < above.x0 and above.x1 < box.x1 + 5 and box.y1 < above.y0 < box.y1 + 20


@settings(max_examples=40, deadline=None)
@given(values=arrays(float, 15, elements=st.floats(-3, 3, width=16)))
def test_percentiles_are_scaled_ranks(values: np.ndarray) -> None:
    rdm = np.zeros((6, 6))
    rdm[np.triu_indices(6, 1)] = values
    rdm += rdm.T
    out = figures.percentile_rdm(rdm)
    np.testing.assert_array_equal(out, out.T)
    assert np.isnan(np.diag(out)).all()
    expected = (rankdata(values) - 1) / 14 * 100  # scipy: average ranks of ties
    np.testing.assert_allclose(out[np.triu_indices(6, 1)], expected, rtol=1e-12)


def test_missing_pairs_stay_missing() -> None:
    rdm = np.array([[0, 1, np.nan], [1, 0, 2], [np.nan, 2, 0]], dtype=float)
    out = figures.percentile_rdm(rdm)
    assert np.isnan(out[0, 2]) and out[0, 1] == 0 and out[1, 2] == 100


def test_bars_have_the_heights_of_the_table() -> None:
    table = similarity()
    figure = figures.similarity_bars(table)
    assert [axes.get_title() for axes in figure.axes] == ["s1", "s2", "s3"]
    order = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert order == ["V1", "V2", "LO", "FFA"]
    of = table[(table["subject"] == "s2") & (table["pair"] == "RE-AI")].set_index("place")["similarity"]
    heights = [bar.get_height() for bar in figure.axes[1].containers[1]]
    np.testing.assert_allclose(heights, of[order])


def test_cells_hold_the_mean_over_subjects() -> None:
    table = layer_roi()
    shown = texts(figures.layer_roi_matrix(table))
    mean = table[(table["kind"] == "RE") & (table["subject"] == "mean")]
    wanted = sorted(format_number(value) for value in mean["similarity"])
    assert sorted(text for text in shown if text in set(wanted)) == wanted
    assert "V1\n.40–.60" in shown


def test_layer_roi_without_mean_rows_or_ceiling_is_averaged_here() -> None:
    table = layer_roi(("s1", "s2")).drop(columns=["ceiling_low", "ceiling_high", "ci_low", "ci_high"])
    shown = texts(figures.layer_roi_matrix(table))
    value = table[(table["kind"] == "RE") & (table["roi"] == "V1") & (table["layer"] == LAYERS[0])]["similarity"].mean()
    assert format_number(value) in shown and "V1" in shown
    figures.layer_roi_lines(table)


def test_missing_numbers_are_left_out_not_refused() -> None:
    bars = figures.similarity_bars(similarity().assign(ci_low=np.nan), system="network")
    matrix = figures.layer_roi_matrix(layer_roi().assign(similarity=np.nan, ceiling_low=np.nan))
    lines = figures.encoding_bars(encoding().query("test == 'RE'"))
    for figure in (bars, matrix, lines):
        figure.draw_without_rendering()
    assert len(bars.axes[0].patches) >= len(LAYERS)  # the bars are there, their whiskers are not
    assert "V1" in texts(matrix)
    assert not any("AI" in text for text in texts(lines))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: figures.similarity_bars(similarity().drop(columns="pair")), "lacks the column.s. pair"),
        (lambda: figures.similarity_bars(similarity(()), system="brain"), "no rows"),
        (lambda: figures.layer_roi_matrix(layer_roi(), kind="AI"), "AI.*no rows"),
        (lambda: figures.encoding_bars(encoding().head(0)), "no rows"),
        (lambda: figures.stimulus_sheet(np.zeros((2, 3, 4, 4)), pd.DataFrame({"id": ["a"]})), "kind, reference_id"),
        (lambda: figures.rdm_heatmaps(np.zeros((1, 2, 3, 3)), row_titles=["RE"], column_titles=["a"]), "1 column"),
    ],
)
def test_bad_tables_are_named(make: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()  # type: ignore[operator]


def test_names_and_numbers() -> None:
    assert order_places(["LO", "x", "V1", "LO"]) == ["V1", "LO", "x"]
    assert [format_number(v) for v in (0.314, -0.05, 1.0, -0.001, float("nan"))] == [".31", "−.05", "1.00", ".00", "–"]
    assert clip_name("espresso maker, coffee machine", 20) == "espresso maker"

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

from neurometamer.errors import InputError
from neurometamer.figures import study as figures
from neurometamer.figures.layout import percentile_rdm
from neurometamer.figures.style import clip_name, format_number, order_representations

LAYERS = (*(f"features.{i}" for i in range(11)), "classifier_with_a_name")
ROIS = ("LO", "V1", "FFA", "V2")
STAMP = "simulated cortex · untrained network (random weights)"


def encoding() -> pd.DataFrame:
    rows = list(itertools.product(("s1", "s2"), ROIS, LAYERS, ("RE", "AI", "AN")))
    table = pd.DataFrame(rows, columns=["subject", "roi", "layer", "test"])
    return table.assign(r=np.linspace(-0.1, 0.4, len(table)), method="Pearson")


def sheet(n: int = 4, limit: int = 16, stamp: str = "") -> Figure:
    rows = [
        {
            "id": f"p{i}{end}",
            "kind": end[1:] or "RE",
            "reference_id": f"p{i}",
            "top1_name": "espresso maker, coffee",
            "target_name": "missile",
            "confidence_png": 0.9912,
            "success": not (i == 1 and end == "_AI"),
        }
        for i in range(n)
        for end in ("", "_AN", "_AI")
        if (i, end) != (0, "_AN")
    ]
    images = np.random.default_rng(0).random((len(rows), 3, 6, 5))
    return figures.stimulus_sheet(images, pd.DataFrame(rows), limit=limit, stamp=stamp)


MAKERS = {
    "stimulus_sheet": lambda stamp: sheet(stamp=stamp),
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
    return [
        tick.label1 for tick in axes.yaxis.get_major_ticks() if not low <= tick.get_loc() <= high
    ] + [tick.label2 for tick in axes.yaxis.get_major_ticks() if not low <= tick.get_loc() <= high]


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
    first = figures.save_figure(MAKERS["encoding_bars"](STAMP), tmp_path / "one.0")
    again = figures.save_figure(MAKERS["encoding_bars"](STAMP), tmp_path / "two")
    assert [path.name for path in first] == ["one.0.svg", "one.0.png"]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in again]
    assert b"<dc:date>" not in first[0].read_bytes()
    assert dict(matplotlib.rcParams) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "one.0.png",
        "one.0.svg",
        "two.png",
        "two.svg",
    ]


def test_a_users_matplotlibrc_changes_nothing(tmp_path: Path) -> None:
    plain = figures.save_figure(MAKERS["encoding_bars"](""), tmp_path / "plain")[0].read_bytes()
    with matplotlib.rc_context(
        {"axes.facecolor": "black", "font.size": 30, "svg.fonttype": "none"}
    ):
        assert (
            figures.save_figure(MAKERS["encoding_bars"](""), tmp_path / "own")[0].read_bytes()
            == plain
        )


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


@settings(max_examples=40, deadline=None)
@given(values=arrays(float, 15, elements=st.floats(-3, 3, width=16)))
def test_percentiles_are_scaled_ranks(values: np.ndarray) -> None:
    rdm = np.zeros((6, 6))
    rdm[np.triu_indices(6, 1)] = values
    rdm += rdm.T
    out = percentile_rdm(rdm)
    np.testing.assert_array_equal(out, out.T)
    assert np.isnan(np.diag(out)).all()
    expected = (rankdata(values) - 1) / 14 * 100  # scipy: average ranks of ties
    np.testing.assert_allclose(out[np.triu_indices(6, 1)], expected, rtol=1e-12)


def test_missing_pairs_stay_missing() -> None:
    rdm = np.array([[0, 1, np.nan], [1, 0, 2], [np.nan, 2, 0]], dtype=float)
    out = percentile_rdm(rdm)
    assert np.isnan(out[0, 2]) and out[0, 1] == 0 and out[1, 2] == 100


def test_kinds_of_test_images_that_are_missing_are_left_out() -> None:
    lines = figures.encoding_bars(encoding().query("test == 'RE'"))
    lines.draw_without_rendering()
    assert not any("AI" in text for text in texts(lines))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: figures.encoding_bars(encoding().head(0)), "no rows"),
        (
            lambda: figures.stimulus_sheet(np.zeros((2, 3, 4, 4)), pd.DataFrame({"id": ["a"]})),
            "kind, reference_id",
        ),
    ],
)
def test_bad_tables_are_named(make: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()  # type: ignore[operator]


def test_names_and_numbers() -> None:
    assert order_representations(["LO", "x", "V1", "LO"]) == ["V1", "LO", "x"]
    assert [format_number(v) for v in (0.314, -0.05, 1.0, -0.001, float("nan"))] == [
        ".31",
        "−.05",
        "1.00",
        ".00",
        "–",
    ]
    assert clip_name("espresso maker, coffee machine", 20) == "espresso maker"

"""A figure is one entry in the table of its page: a dummy is drawn, embedded and linked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from neurometamer.commands import drawing
from neurometamer.report import (
    behavior,
    evaluation,
    image_types,
    rsa,
    searchlight,
    study_figures,
    training,
)
from neurometamer.report.page import Drawing, FigureEntry
from neurometamer.report.study import build_report
from neurometamer.rsa.compute import label_rdms, write_rdms
from neurometamer.rsa.image_types.options import ImageTypeOptions
from neurometamer.store import read_table, write_json, write_table
from neurometamer.training import TrainingRecipe

SCORE = {"score": [0.2, 0.3], "ci_low": [0.1, 0.2], "ci_high": [0.3, 0.4]}


def study_page(folder: Path) -> Path:
    rows = {"subject": "S1", "roi": "V1", "layer": ["early", "late"], "test": "RE"}
    write_table(folder / "tables" / "encoding.csv", pd.DataFrame({**rows, "r": [0.4, 0.2]}))
    write_json(folder / "provenance.json", {})
    return build_report(folder)


def image_type_page(folder: Path) -> Path:
    rows = {"system": "network", "subject": "", "representation": "late", "source": "a.h5", "n": 12}
    tests = {"p": 0.01, "p_corrected": 0.01, "correction": "none", "family": "1 layer"}
    values = {"value": [0.1, 0.6], "ci_low": [0.0, 0.5], "ci_high": [0.2, 0.7]}
    table = pd.DataFrame({**rows, **tests, **values, "pair": ["RE-AN", "RE-AI"]})
    table = table.assign(quantity="similarity", interval="none", method="spearman", follows="")
    return image_types.write_image_type_figures(
        folder, table, options=ImageTypeOptions(), settings={}
    )


def layer_page(folder: Path) -> Path:
    rows = {"kind": "RE", "subject": "S1", "roi": ["V1", "LO"], "layer": "early", "n": 12}
    tests = {"p": 0.01, "q": 0.01, "family": "2 ROIs"}
    matrix = pd.DataFrame({**rows, "similarity": [0.2, 0.3]})
    best = pd.DataFrame({**rows, **SCORE, "naive_layer": "late", "naive_score": 0.4})
    models = pd.DataFrame({**rows, **SCORE, **tests, "model": "best layer"})
    tables = {"layer_roi": matrix, "best_layer": best, "weighted": models}
    return rsa.write_layer_page(folder, tables, layers=["early"], record={})


def map_page(folder: Path) -> Path:
    values = np.linspace(-0.2, 0.4, 60).reshape(3, 4, 5)
    drawn = searchlight.DrawnMap(name="model", values=values, p_family=None, method="spearman")
    summary = pd.DataFrame({"n_places": [60], "neighbors_min": [4], "neighbors_max": [9]})
    affine = np.diag([3.0, 3.0, 3.0, 1.0])
    return searchlight.write_map_page(folder, [drawn], summary, record={}, affine=affine)


def evaluation_page(folder: Path) -> Path:
    row = {"set": "A", "stage": "late", "members": "A", "n_images": 4, "n_valid": 3}
    validity = pd.DataFrame(
        [{**row, "n_not_judged": 0, "pass_above_null": 0.75, "pass_both": 0.75}]
    )
    return evaluation.write_report(folder, {"validity": validity}, {"settings": {"parts": []}})


def experiment_page(folder: Path) -> Path:
    rows = {"observer": "human", "network": "", "model": "A", "stage": ["early", "late"], "n": 5}
    curves = pd.DataFrame({**rows, "proportion": [0.8, 0.3], "sem": 0.05})
    keys = ["analysis", "observer", "models", "source", "p", "p_gg"]
    tables = {
        "curves": curves,
        "anova": pd.DataFrame(columns=keys),
        "permutation": pd.DataFrame(columns=[*keys, "n_permutations"]),
        "exclusions": pd.DataFrame(columns=["what", "n_trials"]),
    }
    settings = {"categories": ["cat", "dog"], "n_permutations": 0, "sem": "over"}
    return behavior.write_report(folder, tables, {"settings": settings})


def training_page(folder: Path) -> Path:
    levels = {"perturbation": "blur", "level": [0.0, 2.0], "accuracy": [0.9, 0.6]}
    bands = {"low": [0.8, 0.5], "high": [0.95, 0.7], "n_images": 40, "attack_steps": 0}
    log = pd.DataFrame({"epoch": [1, 2], "loss": [2.0, 1.0], "accuracy": [0.2, 0.6]})
    recipe = asdict(TrainingRecipe(perturbation="blur", sigmas=(0.0, 2.0)))
    record = {"settings": recipe, "class_names": ["0", "1"], "n_training": 80, "n_validation": 40}
    return training.write_training_page(
        folder, pd.DataFrame({**levels, **bands}), log.assign(validation_accuracy=0.5), record
    )


def rdm_page(folder: Path) -> Path:
    ids = [f"image {number}" for number in range(5)]
    rdms = label_rdms(
        np.arange(10.0)[None],
        conditions=ids,
        rdm_descriptors={"stage": ["late"]},
        measure="euclidean",
    )
    file = write_rdms(rdms, folder.with_name("rdms") / "network.h5")
    images = folder.with_name("images")
    images.mkdir()
    for name in ids:
        Image.new("RGB", (8, 8), "gray").save(images / f"{name}.png")
    return drawing.draw(file, [images], folder)


PAGES: dict[str, tuple[dict[str, FigureEntry[Any]], str, Callable[[Path], Path]]] = {
    "study": (study_figures.FIGURES, "encoding", study_page),
    "image types": (image_types.IMAGE_TYPE_FIGURES, "network", image_type_page),
    "layers": (rsa.LAYER_FIGURES, "models", layer_page),
    "searchlight": (searchlight.MAP_FIGURES, "map-1", map_page),
    "evaluation": (evaluation.FIGURES, "validity", evaluation_page),
    "experiment": (behavior.FIGURES, "figures", experiment_page),
    "training": (training.FIGURES, "accuracy", training_page),
    "draw": (drawing.FIGURES, "rdms", rdm_page),
}


def draw_dummy(page: object) -> Iterator[Drawing]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1, 1))
    figure.add_axes((0, 0, 1, 1)).plot([0, 1])
    yield Drawing(
        name="dummy",
        figure=figure,
        numbers={"dummy_numbers": pd.DataFrame({"x": [1, 2]})},
        caption="What the dummy shows.",
        alt="A line.",
    )


@pytest.mark.parametrize("name", PAGES)
def test_a_new_figure_is_one_entry(name: str, tmp_path: Path) -> None:
    figures, section, write = PAGES[name]
    never = FigureEntry[Any](section=section, draw=draw_dummy, applies=lambda page: False)
    elsewhere = FigureEntry[Any](section="not on this page", draw=draw_dummy)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(figures, "dummy", FigureEntry[Any](section=section, draw=draw_dummy))
        patch.setitem(figures, "never", never)
        patch.setitem(figures, "elsewhere", elsewhere)
        page = write(tmp_path)
    text = unescape(page.read_text(encoding="utf-8"))
    assert text.count('<figure id="figure-dummy">') == 1
    assert "What the dummy shows." in text and 'alt="A line."' in text
    part = text[text.index(f'<section id="{section}"') :]
    assert '<figure id="figure-dummy">' in part[: part.index("</section>")]
    assert '<a href="figures/dummy_numbers.csv">' in text
    assert read_table(tmp_path / "figures" / "dummy_numbers.csv")["x"].tolist() == [1, 2]
    assert (tmp_path / "figures" / "dummy.svg").is_file()
    assert (tmp_path / "figures" / "dummy.png").is_file()


@pytest.mark.parametrize("name", PAGES)
def test_every_entry_stands_in_a_section_of_its_own_page(name: str) -> None:
    figures, _, _ = PAGES[name]
    for key, entry in figures.items():
        assert key and callable(entry.draw) and callable(entry.applies)
    if name == "evaluation":
        assert {entry.section for entry in figures.values()} <= set(evaluation.SECTIONS)

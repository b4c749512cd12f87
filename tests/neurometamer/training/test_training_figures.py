"""Figures and page of a training: what is drawn is what the tables hold."""

from dataclasses import asdict
from html import unescape

import numpy as np
import pandas as pd
import pytest

from neurometamer.errors import InputError
from neurometamer.figures.training import LEVELS, accuracy_lines, training_lines
from neurometamer.report.training import TrainingPage, headlines, methods_sentence
from neurometamer.training import PERTURBATIONS, TrainingRecipe


def curves():
    rows = []
    for name, levels in {"adversarial_linf": (0.1, 0.0, 0.05), "blur": (0, 2, 4)}.items():
        for level in levels:
            accuracy = 0.9 - level * (5 if name == "adversarial_linf" else 0.1)
            bands = {"low": accuracy - 0.1, "high": accuracy + 0.05, "n_images": 200}
            rows.append({"perturbation": name, "level": level, "accuracy": accuracy, **bands})
    return pd.DataFrame(rows).assign(attack_steps=[10, 0, 10, 0, 0, 0], restarts=3)


def log():
    values = {"epoch": [1, 2, 3], "loss": [2.0, 1.0, 0.5], "accuracy": [0.2, 0.5, 0.8]}
    return pd.DataFrame(values).assign(validation_accuracy=[0.3, 0.7, 0.7])


def test_lines_and_bands_are_the_table_in_order_of_levels():
    figure = accuracy_lines(curves(), chance=0.1)
    attack, blur = figure.axes
    assert attack.lines[0].get_xdata().tolist() == [0.0, 0.05, 0.1]
    np.testing.assert_allclose(attack.lines[0].get_ydata(), [0.9, 0.65, 0.4])
    np.testing.assert_allclose(blur.lines[0].get_ydata(), [0.9, 0.7, 0.5])
    assert set(blur.lines[1].get_ydata()) == {0.1}
    corners = blur.collections[0].get_paths()[0].vertices
    assert corners[:, 1].min() == pytest.approx(0.4) and corners[:, 1].max() == pytest.approx(0.95)
    note = figure.get_supxlabel().replace("\n", " ")
    assert "n = 200 images" in note and "10 steps from 3 random starts" in note


def test_each_network_has_a_line_of_its_own_and_a_name():
    table = pd.concat([curves().assign(network="clear"), curves().assign(network="blurred")])
    figure = accuracy_lines(table, stamp="synthetic images")
    for axes in figure.axes:
        assert len(axes.lines) == 2
        assert axes.lines[0].get_color() != axes.lines[1].get_color()
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["clear", "blurred"]
    with pytest.raises(InputError, match="level"):
        accuracy_lines(curves().drop(columns="level"))


def test_noise_goes_from_none_to_much_and_every_perturbation_has_an_axis():
    table = pd.DataFrame({"perturbation": "fourier_noise", "level": [0.2, 1.0], "accuracy": 0.5})
    (axes,) = accuracy_lines(table).axes
    assert axes.get_xlim()[0] > axes.get_xlim()[1]
    assert set(LEVELS) == set(PERTURBATIONS) - {"none"}


def test_the_first_best_epoch_is_marked():
    losses, shares = training_lines(log()).axes
    assert losses.lines[0].get_ydata().tolist() == [2.0, 1.0, 0.5]
    assert shares.lines[1].get_ydata().tolist() == [0.3, 0.7, 0.7]
    assert shares.lines[-1].get_xdata()[0] == 2


@pytest.mark.parametrize("perturbation", PERTURBATIONS)
def test_the_page_says_what_was_done(perturbation):
    needed = {"radius": 0.25, "attack_step_size": 0.1, "sigmas": (0.0, 2.0), "ssnrs": (0.4,)}
    recipe = TrainingRecipe(perturbation=perturbation, color="gray", schedule="step", **needed)
    record = {"settings": asdict(recipe), "class_names": list("ab"), "n_training": 9}
    page = TrainingPage(curves=curves(), log=log(), record=record)
    words = unescape(methods_sentence(page))
    assert "in gray" in words and "times 0.1 every 30 epochs" in words
    said = {"adversarial": "7 steps of 0.1", "random": "moved", "noise": "SSNR 0.4"}
    for part, text in said.items():
        assert (text in words) == (part in perturbation)
    attack, blur = headlines(page)
    assert attack.startswith("Attack, L∞ radius 0.1: accuracy .40 [.30, .45], on clear images .90")
    assert blur.startswith("Blur, sigma (pixels) 4: accuracy .50")

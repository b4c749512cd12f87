"""A simulated recognition experiment with known truth, to try an analysis or to plan a study.

No person is involved.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from neurometamer.arguments import checked
from neurometamer.behavior.trials import NATURAL
from neurometamer.errors import InputError
from neurometamer.provenance import generator
from stimuli_gen.categories import CATEGORIES

Curves = Mapping[str, Mapping[str, float]]


@checked
def simulate_recognition(
    people: Curves,
    networks: Mapping[str, Curves] | None = None,
    *,
    photographs: float = 0.95,
    n_people: int = 20,
    n_images: int = 400,
    shared: float = 0.5,
    spread: float = 0.25,
    careless: Sequence[float] = (),
    categories: Sequence[str] = CATEGORIES,
    seed: int = 0,
) -> pd.DataFrame:
    """Simulate the trials of a recognition experiment laid out as that of Feather et al. (2023).

    Parameters
    ----------
    people : mapping of str to mapping of str to float
        Model to stage to the share of its images that people recognize, in (0, 1).
    networks : mapping of str to curves, optional
        Network to the same for that network, which answers every image in every condition.
    photographs : float
        Share recognized of unchanged photographs, in (0, 1).
    n_people, n_images : int
        Numbers of people and images; each person sees each image once, in a condition drawn at
        random, after 12 screening trials, with 16 catch trials between.
    shared : float
        Share of the variance in difficulty that an image has for all observers, 0 to 1: errors are
        independent at 0, and on the same images at 1.
    spread : float
        Standard deviation of people's ability, in units of the latent normal variable.
    careless : sequence of float
        Shares of trials that further people answer at random, one person each.
    categories : sequence of str
        Possible answers; images take turns.
    seed : int
        Seed of all random numbers.

    Returns
    -------
    pandas.DataFrame
        Columns participant, observer, phase, stimulus, reference_id, condition, model, stage,
        truth, response, rt (ms) and data, which is ``"simulated"``: figures and page then say so.

    Raises
    ------
    InputError
        When a share is not between 0 and 1.

    Notes
    -----
    An answer is right when √shared · (difficulty of image and condition) + √(1 - shared) · noise <
    Φ⁻¹(share) + ability, so that shares of correct answers are those asked for (of people: up to
    their spread). Wrong answers are spread evenly over the other categories.

    Examples
    --------
    >>> trials = simulate_recognition({"resnet": {"late": 0.3}}, n_people=2, n_images=16)
    >>> trials.groupby("phase", sort=False).size().to_dict()
    {'screening': 24, 'main': 32, 'catch': 32}
    """
    from scipy.stats import norm

    conditions = [("", NATURAL, photographs), *_flat(people)]
    given = list(conditions)
    for curves in (networks or {}).values():
        given += _flat(curves)
    if any(not 0 < share < 1 for *_, share in given) or not 0 <= shared <= 1:
        raise InputError("shares of recognized images must lie between 0 and 1, both excluded.")
    if n_people < 0 or n_images < 1 or not (n_people or careless or networks):
        raise InputError(
            f"{n_people} people and {n_images} images; give at least one observer and one image."
        )
    if spread < 0:
        raise InputError(f"spread is {spread}; a standard deviation is 0 or more.")
    hard = generator(seed, "difficulty").standard_normal((n_images, len(conditions)))
    images = [(f"image_{i:03d}", categories[i % len(categories)]) for i in range(n_images)]
    lapses = {f"person_{i:02d}": 0.0 for i in range(n_people)}
    lapses |= {f"careless_{i}": share for i, share in enumerate(careless)}
    parts = []
    for name, lapse in lapses.items():
        random = generator(seed, "person", name)
        which = random.integers(len(conditions), size=n_images)
        wanted = norm.ppf([share for *_, share in conditions]) + spread * random.standard_normal()
        latent = np.sqrt(shared) * hard[np.arange(n_images), which]
        right = latent + np.sqrt(1 - shared) * random.standard_normal(n_images) < wanted[which]
        main = _rows(images, [conditions[k] for k in which], right, lapse, random, categories)
        screening = _warm_up("screening", 12, lapse, random, categories)
        catch = _warm_up("catch", 16, lapse, random, categories)
        main = main.sample(frac=1, random_state=random)
        trials = pd.concat([screening, main, catch], ignore_index=True)
        times = np.round(300 + 500 * random.lognormal(0, 0.4, len(trials)), 1)
        parts.append(trials.assign(participant=name, observer="human", rt=times))
    for name, curves in (networks or {}).items():
        random = generator(seed, "network", name)
        own = {(model, stage): share for model, stage, share in _flat(curves)}
        for k, (model, stage, share) in enumerate(conditions):
            wanted = norm.ppf(own.get((model, stage), share))
            noise = random.standard_normal(n_images)
            right = np.sqrt(shared) * hard[:, k] + np.sqrt(1 - shared) * noise < wanted
            rows = _rows(images, [conditions[k]] * n_images, right, 0.0, random, categories)
            parts.append(rows.assign(participant=name, observer="network", rt=np.nan))
    return pd.concat(parts, ignore_index=True).assign(data="simulated")


def _flat(curves: Curves) -> list[tuple[str, str, float]]:
    return [(model, stage, share) for model, own in curves.items() for stage, share in own.items()]


def _rows(
    images: Sequence[tuple[str, str]],
    conditions: Sequence[tuple[str, str, float]],
    right: np.ndarray,
    lapse: float,
    random: np.random.Generator,
    categories: Sequence[str],
) -> pd.DataFrame:
    truth = np.array([category for _, category in images], dtype=object)
    answers = np.array(categories, dtype=object)
    numbers = np.array([list(categories).index(category) for category in truth])
    steps = random.integers(1, len(categories), len(images))
    wrong = answers[(numbers + steps) % len(categories)]
    guess = answers[random.integers(len(categories), size=len(images))]
    response = np.where(random.random(len(images)) < lapse, guess, np.where(right, truth, wrong))
    names = [f"{model or 'photograph'}/{stage}" for model, stage, _ in conditions]
    stimuli = [f"{name}/{image}" for name, (image, _) in zip(names, images)]
    models, stages, _ = zip(*conditions, strict=True)
    return pd.DataFrame(
        {
            "phase": "main",
            "stimulus": stimuli,
            "reference_id": [image for image, _ in images],
            "condition": names,
            "model": models,
            "stage": stages,
            "truth": truth,
            "response": response,
        }
    )


def _warm_up(
    phase: str, n: int, lapse: float, random: np.random.Generator, categories: Sequence[str]
) -> pd.DataFrame:
    truth = np.array(categories, dtype=object)[random.integers(len(categories), size=n)]
    guess = np.array(categories, dtype=object)[random.integers(len(categories), size=n)]
    response = np.where(random.random(n) < lapse, guess, truth)
    return pd.DataFrame(
        {
            "phase": phase,
            "stimulus": [f"{phase}_{i}" for i in range(n)],
            "truth": truth,
            "response": response,
        }
    ).assign(reference_id="", condition="", model="", stage="")

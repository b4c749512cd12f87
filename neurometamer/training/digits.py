"""Small sets to try trainings on in minutes: scikit-learn's digits, and synthetic color ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from neurometamer.arguments import checked
from neurometamer.errors import InputError, name_ids
from neurometamer.provenance import generator
from neurometamer.training.pictures import LabeledImages

NAMES = tuple(str(digit) for digit in range(10))


@checked
def digit_images(*, size: int = 32, seed: int = 0) -> dict[str, LabeledImages]:
    """Load scikit-learn's 1,797 handwritten digits, in three parts.

    Parameters
    ----------
    size : int
        Side of the images, pixels; the originals have 8.
    seed : int
        Of the parts.

    Returns
    -------
    dict of str to LabeledImages
        ``training`` (1,197), ``validation`` (200) and ``test`` (400): gray in three channels.

    Examples
    --------
    >>> {part: len(images) for part, images in digit_images().items()}
    {'training': 1197, 'validation': 200, 'test': 400}
    """
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    levels = np.empty((len(digits.images), 3, size, size), dtype=np.uint8)
    for row, image in enumerate(digits.images):
        small = Image.fromarray(np.round(image / 16 * 255).astype(np.uint8))
        levels[row] = np.asarray(small.resize((size, size), Image.Resampling.BICUBIC))
    order = generator(seed, "digits").permutation(len(levels))
    parts = {"test": order[:400], "validation": order[400:600], "training": order[600:]}
    made = {}
    for name in ("training", "validation", "test"):
        rows = parts[name]
        made[name] = LabeledImages(
            levels=levels[rows], labels=digits.target[rows], class_names=NAMES
        )
    return made


@checked
def color_digits(
    photographs: Sequence[np.ndarray],
    *,
    agreement: float = 0.8,
    hue_shift: int = 0,
    saturations: tuple[float, float] = (0.9, 0.9),
    size: int = 32,
    seed: int = 0,
) -> dict[str, LabeledImages]:
    """Make synthetic color images: digits in a hue that goes with their class, on photographs.

    Parameters
    ----------
    photographs : sequence of ndarray
        Backgrounds, (3, height, width) uint8, at least 3 of at least `size` pixels. Each is used in
        one part only.
    agreement : float
        Share of the digits whose hue is that of their class, in [0, 1]; the others have a random
        hue.
    hue_shift : int
        Classes between a digit and the one that its hue goes with: 0 is its own; with 3 and an
        `agreement` of 1 a zero has the hue of threes, an eight that of ones, so that hue and shape
        name different classes.
    saturations : tuple of float
        (lowest, highest) saturation of the digits, drawn uniformly, in [0, 1]; 0 is gray.
    size : int
        Side of the images, pixels.
    seed : int
        Of parts, hues and crops.

    Returns
    -------
    dict of str to LabeledImages
        As `digit_images`.

    Raises
    ------
    InputError
        When there are too few photographs, they are too small, or a number is out of range.

    Examples
    --------
    >>> random = np.random.default_rng(0)
    >>> photographs = list(random.integers(0, 256, (3, 3, 40, 40)).astype(np.uint8))
    >>> color_digits(photographs)["test"].levels.shape
    (400, 3, 32, 32)
    """
    import colorsys

    if len(photographs) < 3:
        raise InputError(f"{len(photographs)} photograph(s); give at least 3, one a part.")
    smallest = min(min(photograph.shape[1:]) for photograph in photographs)
    if smallest < size:
        raise InputError(f"a photograph has {smallest} pixels a side; give at least {size}.")
    if not 0 <= agreement <= 1:
        raise InputError(f"agreement is {agreement}; give a share from 0 to 1.")
    palest, strongest = saturations
    if not 0 <= palest <= strongest <= 1:
        raise InputError(
            f"saturations are {name_ids(saturations)}; give the lowest and the highest, from 0 to "
            "1."
        )
    order = generator(seed, "photographs").permutation(len(photographs))
    n_each = max(1, len(photographs) // 5)
    shown_in = {
        "test": order[:n_each],
        "validation": order[n_each : 2 * n_each],
        "training": order[2 * n_each :],
    }
    made = {}
    for part, digits in digit_images(size=size, seed=seed).items():
        assert digits.levels is not None
        random = generator(seed, "color digits", part)
        levels = np.empty_like(digits.levels)
        for row, (gray, label) in enumerate(zip(digits.levels, digits.labels, strict=True)):
            behind = photographs[random.choice(shown_in[part])]
            top = random.integers(0, behind.shape[1] - size + 1)
            left = random.integers(0, behind.shape[2] - size + 1)
            crop = behind[:, top : top + size, left : left + size] / 255
            own_hue = (label + hue_shift) % 10 / 10
            hue = own_hue if random.random() < agreement else random.random()
            saturation = palest
            if strongest > palest:
                saturation = random.uniform(palest, strongest)
            color = np.array(colorsys.hsv_to_rgb(hue, saturation, 0.9))[:, None, None]
            cover = gray / 255
            levels[row] = np.round(255 * (cover * color + (1 - cover) * crop))
        made[part] = LabeledImages(levels=levels, labels=digits.labels, class_names=NAMES)
    return made

"""Map the 1,000 ImageNet classes to sixteen everyday categories.

The categories are those of 16-class-ImageNet: ImageNet classes below one WordNet noun each, as far
as their names are unambiguous (which is why some breeds of dog are left out). Of the 231 WordNet
ids of that list, 207 are classes of ILSVRC-2012. Chance is 1/16.

References
----------
Geirhos, R., Temme, C. R. M., Rauber, J., Schütt, H. H., Bethge, M. & Wichmann, F. A. (2018).
Generalisation in humans and deep neural networks. NeurIPS. Feather, J., Leclerc, G., Mądry, A. &
McDermott, J. H. (2023). Model metamers reveal divergent invariances between biological and
artificial neural networks. Nature Neuroscience 26:2017-2034.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from neurometamer.arguments import checked
from neurometamer.errors import InputError, name_ids, unknown_name

if TYPE_CHECKING:
    from stimuli_gen.models import StagedModel

N_IMAGENET = 1000
"""Classes of ILSVRC-2012, whose order every ImageNet network shares."""

_RANGES: Mapping[str, str] = {
    "airplane": "404",  # airliner
    "bear": "294-297",  # brown, black, ice and sloth bear
    "bicycle": "444 671",  # bicycle built for two, mountain bike
    "bird": "8 10-16 18-20 22-24 80-83 87-96 98-100 127-133 "
    "135-145",  # hen … pelican and king penguin
    "boat": "472 554 625 814 914",  # canoe, fireboat, lifeboat, speedboat, yawl
    "bottle": "440 720 737 898-899 901 907",  # beer, pill, pop, water; water and whiskey jug; wine
    "car": "436 511 817",  # beach wagon, convertible, sports car
    "cat": "281-286",  # tabby … Egyptian cat, cougar
    "chair": "423 559 765 857",  # barber chair, folding chair, rocking chair, throne
    "clock": "409 530 892",  # analog, digital, wall
    "dog": "152-191 193-203 205-226 228-241 243-250 252-257 259 261-263 265-268",
    "elephant": "385-386",  # Indian, African
    "keyboard": "508 878",  # of computers, of typewriters
    "knife": "499",  # cleaver
    "oven": "766",  # rotisserie
    "truck": "555 569 656 675 717 734 864 "
    "867",  # fire engine, garbage truck, minivan, vans, pickup, tow, trailer
}


def _indices(ranges: str) -> list[int]:
    indices: list[int] = []
    for span in ranges.split():
        first, _, last = span.partition("-")
        start = int(first)
        stop = int(last or first) + 1
        indices += range(start, stop)
    return indices


CATEGORIES: tuple[str, ...] = tuple(_RANGES)
"""The 16 category names, in alphabetical order."""


@checked
def sixteen_classes() -> dict[int, str]:
    """Tell which ImageNet class is of which of the 16 categories.

    Returns
    -------
    dict of int to str
        The 207 mapped ImageNet indices (0 to 999), increasing, each with its category.

    Examples
    --------
    >>> table = sixteen_classes()
    >>> len(table), table[404], table[281]
    (207, 'airplane', 'cat')
    """
    table: dict[int, str] = {}
    for category, ranges in _RANGES.items():
        for index in _indices(ranges):
            table[index] = category
    in_order = sorted(table.items())
    return dict(in_order)


def _first_mapped(scores: np.ndarray) -> np.ndarray:
    table = sixteen_classes()
    mapped = list(table)
    places = [CATEGORIES.index(category) for category in table.values()]
    categories = np.array(places)
    of_mapped = scores[:, mapped]
    first = of_mapped.argmax(axis=1)
    return categories[first]


def _mean_prob(scores: np.ndarray) -> np.ndarray:
    means = []
    for ranges in _RANGES.values():
        of_category = scores[:, _indices(ranges)]
        means.append(of_category.mean(axis=1))
    by_category = np.stack(means, axis=1)
    return by_category.argmax(axis=1)


RULES_16: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "first_mapped": _first_mapped,
    "mean_prob": _mean_prob,
}
"""Rule name to the function from class probabilities (n, 1000) float64 to places in `CATEGORIES`
(n,). ``first_mapped`` (Feather et al. 2023): walk the classes from the likeliest down, the first
that belongs to a category wins. ``mean_prob`` (Geirhos et al.'s model-vs-human): the category whose
classes have the largest mean probability."""


@checked
def to_sixteen(probabilities: np.ndarray, rule: str = "first_mapped") -> np.ndarray:
    """Turn ImageNet class probabilities into one of 16 categories an image.

    Parameters
    ----------
    probabilities : ndarray
        (n, 1000), rows sum to 1. For ``first_mapped`` logits will do as well; for ``mean_prob``
        they will not.
    rule : {"first_mapped", "mean_prob"}
        See `RULES_16`.

    Returns
    -------
    ndarray
        (n,) category names.

    Raises
    ------
    InputError
        When the rule is unknown, there are not 1,000 classes, or a value is not finite.

    Examples
    --------
    >>> import numpy as np
    >>> from stimuli_gen import to_sixteen
    >>> probabilities = np.zeros((2, 1000))
    >>> probabilities[0, 404], probabilities[1, 281] = 1, 1  # airliner, tabby
    >>> to_sixteen(probabilities).tolist()
    ['airplane', 'cat']
    """
    if rule not in RULES_16:
        raise unknown_name("16-category rule", rule, RULES_16)
    scores = np.asarray(probabilities, dtype=np.float64)
    if scores.ndim != 2 or scores.shape[1] != N_IMAGENET:
        raise InputError(
            "16 categories are made of the 1,000 ImageNet classes, (n, 1000), not of "
            f"{scores.shape}; use a network with ImageNet's classes."
        )
    if not np.isfinite(scores).all():
        bad = np.flatnonzero(~np.isfinite(scores).all(axis=1))
        raise InputError(
            f"class probabilities are not finite in row(s) {name_ids(bad)}; check the network's "
            "weights and its input."
        )
    places = RULES_16[rule](scores)
    return np.array(CATEGORIES)[places]


CLASS_CRITERIA: Mapping[str, tuple[str, str]] = {
    "16 categories": ("same_class_16", "category16"),
    "own classes": ("same_class_1000", "top1"),
    "none": ("", ""),
}
"""By what a network must see a metamer and its reference alike, to the columns of
`stimuli_gen.same_class` that say whether it does, and what it sees (that of the reference ends in
``_reference``). ``16 categories``: the same of them, as Feather et al. (2023) ask. ``own classes``:
the same first class of the network's own. ``none``: an embedding cannot be asked."""


def class_criterion(model: StagedModel) -> str:
    """Choose the criterion of class by which a network's metamers are judged.

    Parameters
    ----------
    model : StagedModel
        The network.

    Returns
    -------
    str
        One of `CLASS_CRITERIA`: ``16 categories`` where it has ImageNet's 1,000 classes (1,000
        classes are taken for these), ``own classes`` where it has others, ``none`` where its output
        is an embedding.
    """
    if not model.has_classes:
        return "none"
    return "16 categories" if model.n_classes == N_IMAGENET else "own classes"

"""Simulated studies of image types whose truth is known: what intervals and tests over photographs are held against.

A study has photographs (RE) and two other image types of each (AN, AI), shown to a few subjects.
Photographs are points of a latent space; voxels of a subject weigh its dimensions and add noise.
Subjects (their weights and noise) are the same in all studies of one `Design`, so that the truth is
that of these subjects for ever more photographs. Photographs, noise, offsets of sessions and, where
they are random, classes are drawn anew in each study.

The module knows numpy and scipy alone, so that slow tests and the benchmark ``calibration`` use the
same studies.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import rankdata

KINDS = ("RE", "AN", "AI")
"""Image types, in the order of all rows."""


@dataclass(frozen=True, kw_only=True)
class Design:
    """How studies are simulated.

    Parameters
    ----------
    n : int
        Photographs.
    subjects, voxels, dimensions : int
        Sizes.
    an, ai : float
        How far AN and AI images lie at the place of their photograph: 0 is anywhere, 1 the same
        place.
    noise : float
        Standard deviation of the noise of mean responses; the signal's is 1.
    unequal_noise : bool
        Voxels differ in noise (log-normal, sigma 0.7), neighbors correlate (AR(1), 0.5), and every
        photograph has noise of its own size (log-normal, sigma 0.4).
    spectrum : float
        Dimensions have the variance 1 / rank ** spectrum: 0 is flat, 1 and more steep.
    heavy_tails : bool
        Each photograph lies nearer to or farther from the center: t with 4 degrees of freedom.
    classes : int
        Classes of equal size; 0 for none.
    class_share : float
        Share of the latent variance that photographs of a class have in common.
    random_classes : bool
        Whether other studies have other classes, or the same.
    sessions : int
        Sessions of equal size; photographs are spread over them; 0 for none.
    session_sd : float
        Standard deviation of the session's offset in each voxel.
    """

    n: int = 40
    subjects: int = 3
    voxels: int = 100
    dimensions: int = 10
    an: float = 0.0
    ai: float = 0.6
    noise: float = 1.0
    unequal_noise: bool = False
    spectrum: float = 0.0
    heavy_tails: bool = False
    classes: int = 0
    class_share: float = 0.5
    random_classes: bool = False
    sessions: int = 0
    session_sd: float = 0.0

    @property
    def class_labels(self) -> np.ndarray:
        """Class of each photograph, neighbors alike; shape (n,)."""
        return np.arange(self.n) * max(self.classes, 1) // self.n

    @property
    def session_labels(self) -> np.ndarray:
        """Session of each photograph, in turn; shape (n,)."""
        return np.arange(self.n) % max(self.sessions, 1)


DESIGNS = {
    "independent": Design(),
    "strong": Design(ai=0.8, noise=0.5),
    "steep spectrum": Design(spectrum=1.5),
    "heavy tails": Design(heavy_tails=True),
    "unequal noise": Design(unequal_noise=True),
    "fixed classes": Design(classes=5),
    "10 random classes": Design(n=40, classes=10, random_classes=True),
    "10 random classes, class share .8": Design(
        n=40, classes=10, random_classes=True, class_share=0.8
    ),
    "10 random classes of 8": Design(n=80, classes=10, random_classes=True),
    "20 random classes": Design(n=80, classes=20, random_classes=True),
    "sessions, offsets .3": Design(sessions=2, session_sd=0.3),
    "sessions, offsets .6": Design(sessions=2, session_sd=0.6),
    "sessions, offsets .6, 4 sessions": Design(sessions=4, session_sd=0.6),
}
"""Name of a generator to its design; n is replaced where the number of photographs is a part of the table."""


def study(design: Design, seed: int, *, truth: bool = False) -> np.ndarray:
    """Draw the mean responses of one study.

    Parameters
    ----------
    design : Design
        How.
    seed : int
        Of photographs, noise and offsets; subjects and fixed classes do not depend on it.
    truth : bool
        Leave the sessions' offsets out.

    Returns
    -------
    ndarray, shape (subjects, 3 * n, voxels)
        RE, then AN, then AI, photographs in the same order.
    """
    fixed, random = np.random.default_rng([7, design.subjects]), np.random.default_rng([8, seed])
    weights = fixed.standard_normal((design.subjects, design.dimensions, design.voxels))
    levels = np.exp(0.7 * fixed.standard_normal((design.subjects, 1, design.voxels)))
    centers = fixed.standard_normal((max(design.classes, 1), design.dimensions))
    scale = np.arange(1, design.dimensions + 1.0) ** (-design.spectrum / 2)
    weights *= (scale / np.sqrt((scale**2).sum()))[:, np.newaxis]
    values = _images(design, random, centers) @ weights
    noise = random.standard_normal(values.shape)
    if design.unequal_noise:
        noise = _unequal(noise, levels, random)
    values += design.noise * noise
    if design.session_sd and not truth:
        shape = (design.subjects, design.sessions, design.voxels)
        offsets = design.session_sd * random.standard_normal(shape)
        values += np.tile(offsets[:, design.session_labels], (1, len(KINDS), 1))
    return values


def _images(design: Design, random: np.random.Generator, centers: np.ndarray) -> np.ndarray:
    """Place the images in the latent space: (3 * n, dimensions)."""
    shape = (design.n, design.dimensions)
    own, elsewhere, third = random.standard_normal((3, *shape))
    if design.classes:
        if design.random_classes:
            centers = random.standard_normal(centers.shape)
        own *= np.sqrt(1 - design.class_share)
        own += np.sqrt(design.class_share) * centers[design.class_labels]
    if design.heavy_tails:
        own /= np.sqrt(random.chisquare(4, (design.n, 1)) / 2)
    parts = [own]
    for alike, other in ((design.an, elsewhere), (design.ai, third)):
        parts.append(alike * own + np.sqrt(1 - alike**2) * other)
    return np.concatenate(parts)


def _unequal(noise: np.ndarray, levels: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Give noise sizes by voxel and image, and let neighboring voxels correlate."""
    for column in range(1, noise.shape[2]):
        noise[:, :, column] = 0.5 * noise[:, :, column - 1] + np.sqrt(0.75) * noise[:, :, column]
    images = np.exp(0.4 * random.standard_normal((1, noise.shape[1], 1)))
    return noise * images * levels / np.sqrt(np.mean(levels**2))


def rank_rdm(values: np.ndarray) -> np.ndarray:
    """Take 1 - Spearman over voxels between all images.

    Parameters
    ----------
    values : ndarray, shape (n, voxels)
        Responses without ties.

    Returns
    -------
    ndarray, shape (n * (n - 1) / 2,)
        Condensed.
    """
    ranks = np.argsort(np.argsort(values, axis=-1), axis=-1).astype(np.float64)
    return 1 - np.atleast_2d(np.corrcoef(ranks))[np.triu_indices(len(values), 1)]


def kind_rdms(values: np.ndarray) -> np.ndarray:
    """Take the RDM within each image type.

    Parameters
    ----------
    values : ndarray, shape (subjects, 3 * n, voxels)
        Of `study`.

    Returns
    -------
    ndarray, shape (subjects, 3, n * (n - 1) / 2)
        RE, AN, AI.
    """
    n = values.shape[1] // len(KINDS)
    return np.array(
        [[rank_rdm(one[k * n : (k + 1) * n]) for k in range(len(KINDS))] for one in values]
    )


def similarities(rdms: np.ndarray) -> np.ndarray:
    """Correlate the ranks of the RDMs of RE with those of AN and of AI.

    Parameters
    ----------
    rdms : ndarray, shape (..., 3, n_pairs)
        Of `kind_rdms`.

    Returns
    -------
    ndarray, shape (..., 3)
        RE-AN, RE-AI, and RE-AI minus RE-AN.
    """
    ranks = rankdata(rdms, axis=-1)
    ranks -= ranks.mean(axis=-1, keepdims=True)
    ranks /= np.linalg.norm(ranks, axis=-1, keepdims=True)
    an, ai = (np.sum(ranks[..., 0, :] * ranks[..., k, :], axis=-1) for k in (1, 2))
    return np.stack([an, ai, ai - an], axis=-1)


def true_similarities(design: Design, *, studies: int = 20, n: int = 400) -> np.ndarray:
    """Give what the similarities of each subject come to on average, or with ever more photographs.

    Parameters
    ----------
    design : Design
        How.
    studies, n : int
        Large studies that are averaged, and their photographs. Random classes: 15 times as many
        studies of the design as it is, since pairs within a class are alike in every RDM, and more
        classes would leave fewer of them.

    Returns
    -------
    ndarray, shape (subjects, 3)
        RE-AN, RE-AI, difference.
    """
    large = replace(design, sessions=0, session_sd=0.0)
    if design.random_classes:
        studies *= 15
    else:
        large = replace(large, n=n)
    found = [similarities(kind_rdms(study(large, 10**6 + k, truth=True))) for k in range(studies)]
    return np.mean(found, axis=0)

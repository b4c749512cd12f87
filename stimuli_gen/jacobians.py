"""The directions in which an image's change moves a stage's response most and least.

With J the Jacobian of the response at the image, a small change e moves the response by J e, so
these directions are the eigenvectors of F = Jᵀ J with the largest and the smallest eigenvalue
(Berardino et al. 2017, equation 3, for responses with white noise). F is never formed: either J
itself is computed row by row, where it is small, or only products with F, from one graph of
gradients of the image, in Krylov spaces that are restarted (Wu & Simon 2000).

References
----------
Berardino, A., Ballé, J., Laparra, V. & Simoncelli, E. P. (2017). Eigen-distortions of hierarchical
representations. NIPS 30. Wu, K. & Simon, H. (2000). Thick-restart Lanczos method for large
symmetric eigenvalue problems. SIAM Journal on Matrix Analysis and Applications 22:602-616.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from neurometamer.arguments import check_fields
from neurometamer.errors import InputError, unknown_name
from neurometamer.summaries import short_repr
from stimuli_gen.batches import for_one_image, gradients_on, in_batches
from stimuli_gen.models import StagedModel
from stimuli_gen.precision import has_float64

LARGEST_JACOBIAN = 2**25
"""Numbers in a Jacobian that is computed whole unless asked otherwise: 268 MB of float64."""
LARGEST_SIDE = 2048
"""Its shorter side, of which an eigendecomposition takes some seconds."""
ROWS = 64
"""Rows of a Jacobian at once, at least; fewer where memory runs out."""
_WIDTH = 24
"""Vectors of a Krylov space before it is restarted."""
_KEPT = 10
"""Of these, those that are kept."""
_EXHAUSTED = 1e-10
"""Part of a vector that is left by orthogonalization, below which it is rounding."""


@short_repr
@dataclass(frozen=True, kw_only=True)
class Spectrum:
    """How the ends of the spectrum of F are found.

    Parameters
    ----------
    n_each : int
        Eigenvectors at each end.
    method : {"auto", "jacobian", "krylov"}
        See `SOLVERS`; ``"auto"``: the whole Jacobian where it is small (`LARGEST_JACOBIAN`,
        `LARGEST_SIDE`).
    tolerance : float
        Largest residual ‖F e - λ e‖, as part of the largest eigenvalue, of Krylov spaces.
    max_products : int
        Products with F for each end, of Krylov spaces.

    Raises
    ------
    InputError
        When a name is unknown or a number out of range.

    Examples
    --------
    >>> Spectrum(n_each=2).method
    'auto'
    """

    n_each: int = 1
    method: str = "auto"
    tolerance: float = 1e-6
    max_products: int = 2000

    def __post_init__(self) -> None:
        check_fields(self)
        if self.method not in ("auto", *SOLVERS):
            raise unknown_name("method", self.method, ["auto", *SOLVERS])
        for name in ("n_each", "tolerance", "max_products"):
            value = getattr(self, name)
            if not value > 0:
                raise InputError(f"{name} must be above 0, not {value}; give a larger number.")

    def solver_for(self, n_units: int, n_values: int) -> str:
        """Choose the solver.

        Parameters
        ----------
        n_units : int
            Units of the response.
        n_values : int
            Values of the image.

        Returns
        -------
        str
            A key of `SOLVERS`.
        """
        if self.method != "auto":
            return self.method
        shorter = min(n_units, n_values)
        is_small = n_units * n_values <= LARGEST_JACOBIAN and shorter <= LARGEST_SIDE
        return "jacobian" if is_small else "krylov"


@short_repr
@dataclass(frozen=True, kw_only=True, eq=False)
class Ends:
    """Both ends of the spectrum of F at images.

    Parameters
    ----------
    vectors : ndarray
        (n, 2, n_each, 3, height, width): unit eigenvectors, those of the largest eigenvalues first.
    values : ndarray
        (n, 2, n_each) eigenvalues: falling at the first end, rising at the second.
    residuals : ndarray
        (n, 2, n_each): ‖F e - λ e‖ as part of the largest eigenvalue.
    null_dimension : ndarray
        (n,) int: number of independent directions that do not move the response.
    is_exact : bool
        Whether that is the number; else there are at least so many.
    """

    vectors: np.ndarray
    values: np.ndarray
    residuals: np.ndarray
    null_dimension: np.ndarray
    is_exact: bool


class Products:
    """Products with the Jacobian of a stage's response at images.

    One graph of gradients serves all products: the gradient is linear in what it is multiplied
    with, so differentiating it for that gives products with J itself.

    Parameters
    ----------
    model : StagedModel
        The network, of the type of the images.
    stage : str
        Its stage.
    images : Tensor
        (b, 3, height, width).

    Raises
    ------
    InputError
        When no gradient reaches the images.
    """

    def __init__(self, model: StagedModel, stage: str, images: Tensor) -> None:
        self._images = images.detach().requires_grad_(True)
        with sdpa_kernel(SDPBackend.MATH):  # fused attention has first derivatives only
            outputs = model.activations(self._images, [stage])
        self.responses = outputs[stage].flatten(1)
        if not self.responses.requires_grad:
            raise InputError(
                f"{model.name}: {stage}: no gradient reaches the image (detach(), no_grad() or "
                "whole numbers); choose another stage."
            )
        self._probe = torch.zeros_like(self.responses, requires_grad=True)
        (self._back,) = torch.autograd.grad(
            self.responses, self._images, self._probe, create_graph=True
        )

    def forward(self, vectors: Tensor) -> Tensor:
        """Compute J v of each image.

        Parameters
        ----------
        vectors : Tensor
            (b, n_values).

        Returns
        -------
        Tensor
            (b, n_units).
        """
        seeds = vectors.view_as(self._back)
        (product,) = torch.autograd.grad(self._back, self._probe, seeds, retain_graph=True)
        return product

    def both(self, vectors: Tensor) -> Tensor:
        """Compute F v = Jᵀ J v of each image.

        Parameters
        ----------
        vectors : Tensor
            (b, n_values).

        Returns
        -------
        Tensor
            (b, n_values).
        """
        moved = self.forward(vectors)
        (product,) = torch.autograd.grad(self.responses, self._images, moved, retain_graph=True)
        return product.flatten(1)


def in_double(model: StagedModel) -> StagedModel:
    """Copy a network to float64, or leave it where its device has no such numbers.

    Parameters
    ----------
    model : StagedModel
        The network.

    Returns
    -------
    StagedModel
        A copy in float64; the network itself on Apple's MPS and what else has none
        (`stimuli_gen.precision.has_float64`).
    """
    if not has_float64(model.device):
        return model
    network = copy.deepcopy(model.network)
    return replace(model, network=network.double())


# ------------------------------------------------------------------------------ the whole Jacobian


def whole_jacobian(model: StagedModel, stage: str, image: np.ndarray, batch_size: int) -> Tensor:
    """Compute the Jacobian of a stage's response at one image, rows in batches.

    Parameters
    ----------
    model : StagedModel
        The network, in the precision that is wanted.
    stage : str
        Its stage.
    image : ndarray
        (3, height, width) float32.
    batch_size : int
        Rows at once: so many copies of the image are run.

    Returns
    -------
    Tensor
        (n_units, n_values).
    """
    kind = number_type(model)
    device = model.device

    def _rows(copies: Tensor, units: Tensor) -> Tensor:
        with gradients_on():
            images = copies.to(kind).requires_grad_(True)
            responses = model.activations(images, [stage])[stage].flatten(1)
            chosen = responses.gather(1, units.long())
            (rows,) = torch.autograd.grad(chosen.sum(), images)
        return rows.flatten(1)

    n_units = count_units(model, stage, image)
    copies = np.broadcast_to(image, (n_units, *image.shape))
    units = np.arange(n_units, dtype=np.float32)[:, None]  # exact below 2**24
    parts = []
    for rows, values in in_batches(_rows, (copies, units), batch_size, device):
        n = rows.stop - rows.start
        parts.append(values[:n])
    return torch.cat(parts)


def count_units(model: StagedModel, stage: str, image: np.ndarray) -> int:
    """Count the units of a stage's response.

    Parameters
    ----------
    model : StagedModel
        The network.
    stage : str
        Its stage.
    image : ndarray
        (3, height, width) float32.

    Returns
    -------
    int
        Units.
    """
    with torch.no_grad(), for_one_image(tuple(image.shape[1:]), model.device):
        batch = torch.from_numpy(image)[None].to(model.device, number_type(model))
        return model.activations(batch, [stage])[stage].numel()


def number_type(model: StagedModel) -> torch.dtype:
    """Find the type of a network's numbers.

    Parameters
    ----------
    model : StagedModel
        The network.

    Returns
    -------
    torch.dtype
        That of its weights; float64 where it has none, float32 where the device has no float64.
    """
    for weight in model.network.parameters():
        return weight.dtype
    return torch.float64 if has_float64(model.device) else torch.float32


def symmetric_eigen(matrices: Tensor) -> tuple[Tensor, Tensor]:
    """Find eigenvalues and eigenvectors of symmetric matrices.

    Torch's divide and conquer does not converge for some matrices with hundreds of equal
    eigenvalues, which ReLUs and even parts of a photograph make: these go to `by_syevr`.

    Parameters
    ----------
    matrices : Tensor
        (…, n, n).

    Returns
    -------
    values : Tensor
        (…, n), rising; NaN where the matrix is not finite.
    vectors : Tensor
        (…, n, n), in columns; NaN there, too.
    """
    is_bad = ~matrices.isfinite().flatten(-2).all(dim=-1)
    usable = torch.where(is_bad[..., None, None], torch.zeros_like(matrices), matrices)
    try:
        values, vectors = torch.linalg.eigh(usable)
    except torch.linalg.LinAlgError:
        values, vectors = by_syevr(usable)
    values = values.masked_fill(is_bad[..., None], torch.nan)
    return values, vectors.masked_fill(is_bad[..., None, None], torch.nan)


def by_syevr(matrices: Tensor) -> tuple[Tensor, Tensor]:
    """Find eigenvalues and eigenvectors of symmetric matrices by relatively robust representations.

    Parameters
    ----------
    matrices : Tensor
        (…, n, n), finite.

    Returns
    -------
    values, vectors : Tensor
        See `symmetric_eigen`.
    """
    from scipy.linalg import eigh

    n = matrices.shape[-1]
    solved = [eigh(matrix, driver="evr") for matrix in matrices.reshape(-1, n, n).cpu().numpy()]
    values, vectors = (torch.from_numpy(np.stack(part)) for part in zip(*solved, strict=True))
    return values.to(matrices).view(matrices.shape[:-1]), vectors.to(matrices).view_as(matrices)


def ends_of_jacobian(jacobian: Tensor, starts: Tensor, n_each: int) -> tuple[Tensor, int]:
    """Find both ends of the spectrum of F = Jᵀ J of one image.

    Parameters
    ----------
    jacobian : Tensor
        (n_units, n_values).
    starts : Tensor
        (n_each, n_values): directions of which the part in the null space is taken, where it has
        so many dimensions.
    n_each : int
        Eigenvectors at each end.

    Returns
    -------
    vectors : Tensor
        (2, n_each, n_values), orthonormal at each end.
    null_dimension : int
        Eigenvalues below the largest times the float's precision times the longer side.
    """
    n_units, n_values = jacobian.shape
    is_wide = n_units < n_values
    gram = jacobian @ jacobian.T if is_wide else jacobian.T @ jacobian
    values, vectors = symmetric_eigen(gram)
    unseen = torch.finfo(values.dtype).eps * max(n_units, n_values)
    rank = int((values > unseen * values[-1]).sum())
    first = len(values) - rank  # they rise
    null_dimension = n_values - rank
    largest = vectors[:, -n_each:].T.flip(0)
    if is_wide:
        largest = largest @ jacobian
    if null_dimension >= n_each:
        # what is left of the starts without the rows that move the response
        seen = vectors[:, first:].contiguous()
        basis = seen.T @ jacobian / values[first:].sqrt()[:, None] if is_wide else seen.T
        smallest = starts
        for _ in range(2):  # the second time takes out the rounding of the first
            smallest = smallest - (smallest @ basis.T) @ basis
    else:
        full = jacobian.T @ jacobian if is_wide else gram
        _, all_vectors = symmetric_eigen(full)
        smallest = all_vectors[:, :n_each].T
    ends = []
    for end in (largest, smallest):
        orthonormal, _ = torch.linalg.qr(end.T)
        ends.append(orthonormal.T)
    return torch.stack(ends), null_dimension


def solve_by_jacobian(
    model: StagedModel,
    stage: str,
    images: np.ndarray,
    starts: np.ndarray,
    spectrum: Spectrum,
    batch_size: int,
) -> Ends:
    """Find the ends of the spectrum from the whole Jacobian, image by image.

    Parameters
    ----------
    model : StagedModel
        The network, in the precision that is wanted.
    stage : str
        Its stage.
    images : ndarray
        (n, 3, height, width) float32.
    starts : ndarray
        (n, n_each, 3, height, width) float32: directions of which the part in the null space is
        taken, where there is one.
    spectrum : Spectrum
        What is wanted.
    batch_size : int
        Rows of a Jacobian at once, at least `ROWS`.

    Returns
    -------
    Ends
        The dimension of the null space counts eigenvalues below the largest times the float's
        precision times the longer side.
    """
    vectors, values, residuals, dimensions = [], [], [], []
    for image, start in zip(images, starts, strict=True):
        jacobian = whole_jacobian(model, stage, image, max(ROWS, batch_size))
        directions = torch.from_numpy(start).to(jacobian).flatten(1)
        ends, dimension = ends_of_jacobian(jacobian, directions, spectrum.n_each)
        moved = ends @ jacobian.T
        of_ends = moved.square().sum(dim=2)
        rest = moved @ jacobian - of_ends[..., None] * ends
        scale = of_ends.max().clamp_min(torch.finfo(of_ends.dtype).tiny)
        vectors.append(ends)
        values.append(of_ends)
        residuals.append(rest.norm(dim=2) / scale)
        dimensions.append(dimension)
    shape = (len(images), 2, spectrum.n_each, *images.shape[1:])
    return Ends(
        vectors=_as_numbers(torch.stack(vectors)).reshape(shape),
        values=_as_numbers(torch.stack(values)),
        residuals=_as_numbers(torch.stack(residuals)),
        null_dimension=np.array(dimensions),
        is_exact=True,
    )


def _as_numbers(values: Tensor) -> np.ndarray:
    return values.cpu().double().numpy()


# ----------------------------------------------------------------------------------- Krylov spaces


def solve_in_krylov_spaces(
    model: StagedModel,
    stage: str,
    images: np.ndarray,
    starts: np.ndarray,
    spectrum: Spectrum,
    batch_size: int,
) -> Ends:
    """Find the ends of the spectrum by products with F, several images at once.

    Parameters
    ----------
    model : StagedModel
        The network, in the precision that is wanted.
    stage : str
        Its stage.
    images : ndarray
        (n, 3, height, width) float32.
    starts : ndarray
        (n, n_each, 3, height, width) float32: where the spaces of each image begin.
    spectrum : Spectrum
        What is wanted.
    batch_size : int
        Images at once.

    Returns
    -------
    Ends
        The null space has at least as many dimensions as the image has values more than the
        response units.
    """

    def _solve(batch: Tensor, directions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        kind = number_type(model)
        tiny = torch.finfo(kind).tiny
        found: list[tuple[Tensor, Tensor, Tensor]] = []
        with gradients_on():
            products = Products(model, stage, batch.to(kind))
            scale = torch.full((len(batch),), tiny, dtype=kind, device=batch.device)
            for is_largest in (True, False):
                locked = products.responses.new_zeros(len(batch), 0, batch[0].numel())
                for start in directions.to(kind).flatten(2).unbind(dim=1):
                    pair = krylov_pair(products.both, start, locked, scale, spectrum, is_largest)
                    scale = torch.maximum(scale, pair[1])
                    locked = torch.cat([locked, pair[0][:, None]], dim=1)
                    found.append(pair)
        vectors, values, residuals = [
            torch.stack(parts, dim=1) for parts in zip(*found, strict=True)
        ]
        return vectors, values, residuals / scale[:, None]

    solved: list[list[np.ndarray]] = [[], [], []]
    for rows, parts in in_batches(_solve, (images, starts), batch_size, model.device):
        n = rows.stop - rows.start
        for numbers, part in zip(solved, parts, strict=True):
            numbers.append(_as_numbers(part[:n]))
    vectors, values, residuals = [np.concatenate(numbers) for numbers in solved]
    n_units = count_units(model, stage, images[0])
    dimension = max(0, images[0].size - n_units)
    pairs = (len(images), 2, spectrum.n_each)
    return Ends(
        vectors=vectors.reshape(*pairs, *images.shape[1:]),
        values=values.reshape(pairs),
        residuals=residuals.reshape(pairs),
        null_dimension=np.full(len(images), dimension),
        is_exact=False,
    )


def krylov_pair(
    product: Callable[[Tensor], Tensor],
    start: Tensor,
    locked: Tensor,
    scale: Tensor,
    spectrum: Spectrum,
    is_largest: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Find the next eigenvector of each image in restarted Krylov spaces.

    It is orthogonal to those that are locked, so that spaces of several dimensions are filled. All
    images have as many products; one that has converged keeps what it had then.

    Parameters
    ----------
    product : callable
        (b, n_values) → F times these.
    start : Tensor
        (b, n_values): where the spaces begin.
    locked : Tensor
        (b, n_locked, n_values): eigenvectors that are known.
    scale : Tensor
        (b,): the largest eigenvalues that are known.
    spectrum : Spectrum
        Tolerance and number of products.
    is_largest : bool
        Which end.

    Returns
    -------
    vector : Tensor
        (b, n_values), of unit norm.
    value, residual : Tensor
        (b,) each; the residual is not yet divided by the largest eigenvalue.
    """
    n_locked, n_values = locked.shape[1:]
    width = min(_WIDTH, n_values - n_locked)
    basis = start.new_zeros(len(start), n_locked + width, n_values)
    basis[:, :n_locked] = locked
    moved = torch.zeros_like(basis)
    result: tuple[Tensor, Tensor, Tensor] | None = None
    is_done = torch.zeros(len(start), dtype=torch.bool, device=start.device)
    vector, count = start, n_locked
    for number in range(1, spectrum.max_products + 1):
        vector = _orthonormal(vector, basis[:, :count], start.roll(number, dims=1))
        basis[:, count] = vector
        moved[:, count] = product(vector)
        count += 1
        vector = moved[:, count - 1]
        is_last = number == spectrum.max_products
        if count < n_locked + width and not is_last:
            continue
        vector = _orthonormal(vector, basis[:, :count], start.roll(-number, dims=1))
        here = slice(n_locked, count)
        small = basis[:, here] @ moved[:, here].transpose(1, 2)
        values, rotation = symmetric_eigen((small + small.transpose(1, 2)) / 2)
        turned = rotation.transpose(1, 2) @ basis[:, here]
        products = rotation.transpose(1, 2) @ moved[:, here]
        if is_largest:
            values, turned, products = (part.flip(1) for part in (values, turned, products))
        rest = _without(products[:, 0] - values[:, :1] * turned[:, 0], locked)
        now = turned[:, 0].clone(), values[:, 0].clone(), rest.norm(dim=1)
        if result is not None:
            vectors = torch.where(is_done[:, None], result[0], now[0])
            numbers = zip(result[1:], now[1:], strict=True)
            value, residual = (torch.where(is_done, *pair) for pair in numbers)
            now = vectors, value, residual
        result = now
        largest = torch.maximum(scale, values.amax(dim=1))
        is_done = (result[2] <= spectrum.tolerance * largest) | result[2].isnan()
        if is_last or width < _WIDTH or bool(is_done.all()):
            break
        kept = slice(n_locked, n_locked + _KEPT)
        basis[:, kept] = turned[:, :_KEPT]
        moved[:, kept] = products[:, :_KEPT]
        count = n_locked + _KEPT
    assert result is not None
    vector, value, residual = result
    return vector, value.clamp_min(0), residual


def _orthonormal(vector: Tensor, basis: Tensor, spare: Tensor) -> Tensor:
    """Make vectors orthogonal to a basis and of unit norm; the spare ones where nothing is left."""
    before = vector.norm(dim=1, keepdim=True)
    for _ in range(2):
        vector = _without(vector, basis)
    is_exhausted = vector.norm(dim=1, keepdim=True) <= _EXHAUSTED * before
    for _ in range(2):
        spare = _without(spare, basis)
    vector = torch.where(is_exhausted, spare, vector)
    norm = vector.norm(dim=1, keepdim=True)
    return vector / norm.clamp_min(torch.finfo(norm.dtype).tiny)


def _without(vector: Tensor, basis: Tensor) -> Tensor:
    """Take out the part of each vector that lies in its basis."""
    parts = torch.einsum("bkn,bn->bk", basis, vector)
    return vector - torch.einsum("bk,bkn->bn", parts, basis)


Solver = Callable[[StagedModel, str, np.ndarray, np.ndarray, Spectrum, int], Ends]

SOLVERS: Mapping[str, Solver] = {
    "jacobian": solve_by_jacobian,
    "krylov": solve_in_krylov_spaces,
}
"""Name → how the ends of the spectrum are found: from the whole Jacobian, with the exact dimension
of its null space; or by products with it."""

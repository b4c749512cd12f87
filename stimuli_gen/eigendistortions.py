"""Eigendistortions: the changes of a photograph that a stage of a network sees best and least.

References
----------
Berardino, A., Ballé, J., Laparra, V. & Simoncelli, E. P. (2017). Eigen-distortions of hierarchical
representations. NIPS 30.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from neurometamer.arguments import checked, from_options
from neurometamer.errors import InputError, name_ids, need_columns
from neurometamer.provenance import digest, generator, provenance
from neurometamer.run_options import RunOptions
from stimuli_gen.adversarial import check_photographs, read_saved
from stimuli_gen.batches import arithmetic, gradients_on, images_at_once, images_by_id, in_batches
from stimuli_gen.criteria import judged_at_once
from stimuli_gen.depth import at_stages
from stimuli_gen.jacobians import (
    SOLVERS,
    Ends,
    Products,
    Spectrum,
    count_units,
    in_double,
    number_type,
)
from stimuli_gen.models import StagedModel, run_on_device_of
from stimuli_gen.stimuli import StimulusSet, from_8bit, to_8bit
from stimuli_gen.synthesis.batch import CPU_CHUNK
from stimuli_gen.synthesis.checkpoint import Checkpoint, Descended, stacked

KIND = "eigendistortion"
ENDS = ("largest", "smallest")
"""Ends of the spectrum, as the column ``end`` names them."""
N_RANDOM = 4
"""Random directions with which pictures are compared."""
WHAT_TO_TRY = (
    "allow more products (max_products) where the residual is too large; give a larger strength "
    "where a small change is lost in 8 bits, and a smaller one where a large change is clipped"
)
"""What may help where a picture does not keep its eigenvector."""


@checked
def eigendistortions(
    model: StagedModel,
    references: StimulusSet,
    *,
    stage: str | float,
    strength: float = 0.05,
    share: float = 0.5,
    seed: int = 0,
    run: RunOptions | None = None,
    **options: Any,
) -> StimulusSet:
    """Change photographs in the directions that a stage of a network sees best and least.

    These are the eigenvectors e of F = Jᵀ J with the largest and the smallest eigenvalues λ, J
    being the Jacobian of the stage's response at the photograph: a change of length d along e moves
    the response by d √λ (Berardino et al. 2017, equations 3 and 4). An image is the photograph
    plus the eigenvector, clipped to [0, 1].

    Parameters
    ----------
    model : StagedModel
        The network.
    references : StimulusSet
        Photographs; of each, images with the ids ``<reference id>_largest1``,
        ``<reference id>_smallest1`` and so on are made.
    stage : str or float
        Name of a stage, ``"early"``, ``"middle"``, ``"late"`` or a fraction of depth. See
        `stimuli_gen.depth.resolve_stage`.
    strength : float
        Root mean square of the change, above 0; pixels in [0, 1]. Not from the paper, where people
        say how much of it they need to see it.
    share : float
        What the 8-bit pictures must keep, in (0, 1). Their change must move the response, by the
        Jacobian, at the largest end by at least this share of the eigenvalue, and at the smallest
        by at most this share of what random changes do. Of no paper.
    seed : int
        Seed of the vectors where Krylov spaces begin, and of random changes.
    run : RunOptions, optional
        How it is run: batch size, resume folder and progress; its device is that of the network.
        The mode has no effect.
    **options : object
        Fields of `stimuli_gen.jacobians.Spectrum`: ``n_each``, ``method``, ``tolerance`` and
        ``max_products``.

    Returns
    -------
    StimulusSet
        Kind ``eigendistortion``. ``end`` and ``rank`` say which eigenvector; ``eigenvalue`` and
        ``residual`` (‖F e - λ e‖ as part of the largest eigenvalue) how well it was found;
        ``rayleigh_png`` is ‖J c‖² / ‖c‖² of the change c that the 8-bit picture has, and
        ``rayleigh_random`` the mean of four random changes. ``null_dimension`` is the number of
        independent changes that move nothing: the smallest eigenvector is any of these, so two
        methods agree in its eigenvalue, 0, but not in the vector; where
        ``null_dimension_is_exact`` is False there are at least so many. ``success``: the
        eigenvector was found within the tolerance, and its picture keeps its `share`. ``l2_8bit``:
        length of its change, in levels of 0 to 255.

    Raises
    ------
    InputError
        When photographs, network, stage or settings do not fit, or no gradient reaches the image.

    Notes
    -----
    Numbers are float64, on Apple's MPS float32. An eigenvector's sign is free; here its value of
    largest magnitude is positive. Vectors of equal or nearly equal eigenvalues are any basis of
    their space.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from stimuli_gen import eigendistortions, stage_model
    >>> _ = torch.manual_seed(0)
    >>> layers = nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(900, 5)
    >>> model = stage_model(nn.Sequential(*layers))
    >>> import numpy as np
    >>> import pandas as pd
    >>> from stimuli_gen import StimulusSet
    >>> images = np.random.default_rng(0).random((1, 3, 32, 32), dtype="float32")
    >>> table = pd.DataFrame({"id": ["a"], "kind": "RE", "reference_id": ["a"]})
    >>> made = eigendistortions(model, StimulusSet(images=images, table=table), stage="3")
    >>> made.ids, made.table["null_dimension"].tolist(), made.table["success"].tolist()
    (('a_largest1', 'a_smallest1'), [3067, 3067], [True, True])
    """
    check_photographs(model, references)
    spectrum = from_options(Spectrum, options, "setting of eigendistortions")
    view, (name,) = at_stages(model, [stage])
    for what, value, most in (("strength", strength, np.inf), ("share", share, 1)):
        if not 0 < value < most:
            raise InputError(f"{what} is {value}; give a number above 0, such as 0.05 or 0.5.")
    image_of = images_by_id(references)
    double = in_double(view)
    n_values = image_of(references.ids[0]).size
    n_units = check_n_each(double, name, image_of(references.ids[0]), spectrum.n_each)
    run = run_on_device_of(model, run)
    method = spectrum.solver_for(n_units, n_values)
    settings: dict[str, Any] = {
        "kind": KIND,
        "stage": name,
        "module": view.stages[name],
        "strength": strength,
        "share": share,
        "seed": seed,
        **asdict(spectrum),
        "method": method,
    }
    made = solve_photographs(double, view.digest, references, settings, spectrum, run)
    ids: list[str] = []
    for reference_id in references.ids:
        ids += _ids(reference_id, spectrum)
    images = stacked({name: result for name, (result, _) in made.items()}, ids)
    rows = []
    for distortion in ids:
        result, numbers = made[distortion]
        rows.append({"id": distortion, "kind": KIND, **numbers, "eigenvalue": result.score})
    table = pd.DataFrame(rows)
    categories = dict(zip(references.ids, references.table["category"], strict=True))
    table = table.assign(
        category=table["reference_id"].map(categories),
        stage=name,
        n_units=n_units,
        method=method,
        strength=strength,
        criterion=share,
        tolerance=spectrum.tolerance,
        seed=seed,
        model=model.name,
        weights=model.weights,
        note="" if model.trained else "untrained network",
    )
    record = provenance(
        settings,
        model=model.name,
        weights=model.weights,
        trained=model.trained,
        model_digest=view.digest,
        references=references.digest,
        **arithmetic(model.device),
    )
    stimuli = StimulusSet(images=images, table=table, provenance=record)
    return _judge(double, stimuli, references, images, confirmed=False)


def check_n_each(model: StagedModel, name: str, image: np.ndarray, n_each: int) -> int:
    """Refuse more eigendistortions than a stage has units.

    Parameters
    ----------
    model : StagedModel
        A view that has the stage.
    name : str
        The stage.
    image : ndarray
        (3, height, width), of the size of the photographs.
    n_each : int
        Eigendistortions at each end.

    Returns
    -------
    int
        Units of the stage.

    Raises
    ------
    InputError
        When units or pixels are fewer.
    """
    n_units = count_units(model, name, image)
    most = min(n_units, image.size)
    if n_each > most:
        raise InputError(
            f"n_each is {n_each}, and {name} of {model.name} has {n_units} units (an image has "
            f"{image.size} numbers); give at most {most}."
        )
    return n_units


def _ids(reference_id: str, spectrum: Spectrum) -> list[str]:
    """Name the images of a photograph: those of the largest eigenvalues first."""
    ids = []
    for end in ENDS:
        ids += [f"{reference_id}_{end}{rank + 1}" for rank in range(spectrum.n_each)]
    return ids


def solve_photographs(
    double: StagedModel,
    model_digest: str,
    references: StimulusSet,
    settings: Mapping[str, Any],
    spectrum: Spectrum,
    run: RunOptions,
) -> dict[str, tuple[Descended, dict[str, Any]]]:
    """Find the eigenvectors of all photographs, some at a time, and keep what is finished.

    Parameters
    ----------
    double : StagedModel
        The network, in the precision that is wanted.
    model_digest : str
        Of the network as it was given.
    references : StimulusSet
        Photographs.
    settings : mapping
        Everything that changes the images.
    spectrum : Spectrum
        What is wanted.
    run : RunOptions
        Batch size, resume folder and progress.

    Returns
    -------
    dict of str to tuple
        Id → image and what is known of it.
    """
    image_of = images_by_id(references)
    recipe = {name: value for name, value in settings.items() if name != "share"}
    keys = {}
    for reference_id in references.ids:
        for distortion in _ids(reference_id, spectrum):
            keys[distortion] = digest(recipe, model_digest, distortion, image_of(reference_id))
    checkpoint = Checkpoint(run.resume, keys)
    made = checkpoint.finished(list(keys))
    waiting = [
        reference_id
        for reference_id in references.ids
        if not made.keys() >= set(_ids(reference_id, spectrum))
    ]
    # as in the loop: on a CPU the batch size must change nothing
    is_cpu = double.device.type == "cpu"
    size = CPU_CHUNK if is_cpu else images_at_once(run.batch_size, double.device)
    with checkpoint.at_work() as stop:
        for first in range(0, len(waiting), size):
            ids = waiting[first : first + size]
            images = np.stack([image_of(reference_id) for reference_id in ids])
            shape = (spectrum.n_each, *images.shape[1:])
            starts = []
            for reference_id in ids:
                random = generator(settings["seed"], "eigendistortion", reference_id)
                starts.append(random.standard_normal(shape, dtype=np.float32))
            solve = SOLVERS[settings["method"]]
            ends = solve(double, settings["stage"], images, np.stack(starts), spectrum, size)
            refuse_without_directions(ends, ids)
            for row, reference_id in enumerate(ids):
                results = distorted_images(images[row], ends, row, settings["strength"])
                names = _ids(reference_id, spectrum)
                for distortion, (result, numbers) in zip(names, results, strict=True):
                    numbers["reference_id"] = reference_id
                    checkpoint.put(distortion, result, **numbers)
                    made[distortion] = result, numbers
            if run.progress is not None:
                run.progress(len(made), len(keys))
            if stop.requested:
                stop.stop()
    return made


def refuse_without_directions(ends: Ends, ids: Sequence[str]) -> None:
    """Refuse photographs at which nothing moves the response, or its gradient is not finite.

    Parameters
    ----------
    ends : Ends
        Eigenvalues of the photographs.
    ids : sequence of str
        Their ids.

    Raises
    ------
    InputError
        When there is one.
    """
    largest = dict(zip(ids, ends.values[:, 0, 0].tolist(), strict=True))
    broken = [name for name, value in largest.items() if not np.isfinite(value)]
    if broken:
        raise InputError(
            f"the gradient of the response is not finite at {name_ids(broken)} (as that of a root "
            "at 0); leave these images out, or choose another stage."
        )
    flat = [name for name, value in largest.items() if not value > 0]
    if flat:
        raise InputError(
            f"the response does not change with the image at all at {name_ids(flat)}: its gradient "
            "is zero everywhere; choose another stage, or leave these images out."
        )


def distorted_images(
    image: np.ndarray, ends: Ends, row: int, strength: float
) -> list[tuple[Descended, dict[str, Any]]]:
    """Add the eigenvectors of a photograph to it.

    Parameters
    ----------
    image : ndarray
        (3, height, width) float32: the photograph.
    ends : Ends
        Eigenvectors of several photographs.
    row : int
        Its place among them.
    strength : float
        Root mean square of the change.

    Returns
    -------
    list of tuple
        Image and what is known of it, those of the largest eigenvalues first.
    """
    results = []
    length = strength * np.sqrt(image.size)  # the norm of a change of that root mean square
    for number, end in enumerate(ENDS):
        for rank, vector in enumerate(ends.vectors[row, number]):
            peak = vector.flat[np.abs(vector).argmax()]
            change = length * np.sign(peak) * vector
            changed = np.clip(image + change, 0, 1)
            numbers = {
                "end": end,
                "rank": rank + 1,
                "residual": float(ends.residuals[row, number, rank]),
                "null_dimension": int(ends.null_dimension[row]),
                "null_dimension_is_exact": ends.is_exact,
            }
            value = float(ends.values[row, number, rank])
            result = Descended(
                image=changed.astype(np.float32),
                score=value,
                score_shown=value,
                steps=0,
                reached=True,
            )
            results.append((result, numbers))
    return results


def _judge(
    double: StagedModel,
    stimuli: StimulusSet,
    references: StimulusSet,
    pictures: np.ndarray,
    *,
    confirmed: bool,
) -> StimulusSet:
    """Measure how much the changes of the pictures move the response, by the Jacobian."""
    table = stimuli.table
    names = table["reference_id"].tolist()
    originals = references.images[references.rows_of(names, what="reference")]
    changes = from_8bit(to_8bit(pictures)) - from_8bit(to_8bit(originals))
    seed, stage = int(table["seed"].iloc[0]), str(table["stage"].iloc[0])
    of_pictures = rayleigh_quotients(double, stage, originals, changes)
    photographs = list(dict.fromkeys(names))
    unique = references.images[references.rows_of(photographs)]
    of_random = np.zeros(len(photographs))
    for number in range(N_RANDOM):
        directions = []
        for name in photographs:
            random = generator(seed, "random change", name, number)
            directions.append(random.standard_normal(unique.shape[1:], dtype=np.float32))
        quotients = rayleigh_quotients(double, stage, unique, np.stack(directions))
        of_random += quotients / N_RANDOM
    random_of = dict(zip(photographs, of_random, strict=True))
    judged = table.assign(
        l2_8bit=255 * np.linalg.norm(changes.reshape(len(changes), -1), axis=1),
        rayleigh_png=of_pictures,
        rayleigh_random=[random_of[name] for name in names],
    )
    why_not = [why_not_kept(row) for row in judged.to_dict("records")]
    success = [not reason for reason in why_not]
    advice = [WHAT_TO_TRY if reason else "" for reason in why_not]
    judged = judged.assign(
        success=success, confirmed=confirmed, why_not=why_not, what_to_try=advice
    )
    return replace(stimuli, table=judged)


def why_not_kept(row: Mapping[Any, Any]) -> str:
    """Say why a picture is not what was asked.

    Parameters
    ----------
    row : mapping
        Row of the table of `eigendistortions`.

    Returns
    -------
    str
        Reasons between semicolons; empty where it is.
    """
    reasons = []
    if not row["residual"] <= row["tolerance"]:
        reasons.append(
            f"residual {row['residual']:.2g} above {row['tolerance']:g}; allow more products"
        )
    share, moved = row["criterion"], row["rayleigh_png"]
    if not row["l2_8bit"]:
        reasons.append("the picture is the photograph itself; make the change stronger")
    elif row["end"] == "largest" and not moved >= share * row["eigenvalue"]:
        reasons.append(
            f"as a picture it moves the response by {moved:.3g}, below {share:g} of the eigenvalue "
            f"{row['eigenvalue']:.3g}; change its strength"
        )
    elif row["end"] == "smallest" and not moved <= share * row["rayleigh_random"]:
        reasons.append(
            f"as a picture it moves the response by {moved:.3g}, above {share:g} of what random "
            f"changes do, {row['rayleigh_random']:.3g}; make it stronger"
        )
    return "; ".join(reasons)


def rayleigh_quotients(
    model: StagedModel, stage: str, images: np.ndarray, changes: np.ndarray
) -> np.ndarray:
    """Measure how much changes move a stage's response, by the Jacobian at the images.

    Parameters
    ----------
    model : StagedModel
        The network, in the precision that is wanted (`stimuli_gen.jacobians.in_double`).
    stage : str
        Its stage.
    images : ndarray
        (n, 3, height, width) float32.
    changes : ndarray
        The same shape.

    Returns
    -------
    ndarray
        (n,) ‖J c‖² / ‖c‖², at least 0; 0 where nothing changes.
    """

    def _quotients(batch: Tensor, directions: Tensor) -> Tensor:
        with gradients_on():
            products = Products(model, stage, batch.to(number_type(model)))
            vectors = directions.to(products.responses).flatten(1)
            moved = products.forward(vectors)
        norm = vectors.square().sum(dim=1)
        quotients = moved.square().sum(dim=1) / norm.clamp_min(1e-30)
        return quotients.detach()

    parts = []
    size = judged_at_once(model.device)
    for rows, values in in_batches(_quotients, (images, changes), size, model.device):
        n = rows.stop - rows.start
        parts.append(values[:n].cpu().numpy())
    return np.concatenate(parts).astype(np.float64)


@checked
def confirm_eigendistortions(
    model: StagedModel,
    stimuli: StimulusSet,
    references: StimulusSet,
    folder: str | os.PathLike[str],
) -> StimulusSet:
    """Read the written PNG files back and measure how much their changes move the response.

    Parameters
    ----------
    model : StagedModel
        The network that the images were made for.
    stimuli : StimulusSet
        What `eigendistortions` made.
    references : StimulusSet
        Their photographs.
    folder : path-like
        Where `stimuli_gen.write_stimuli` wrote them.

    Returns
    -------
    StimulusSet
        ``rayleigh_png``, ``success`` and ``why_not`` from the files; ``confirmed = True``.

    Raises
    ------
    InputError
        When a PNG is missing, cannot be decoded or has another size, or the images were made for
        another network.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> import torch
    >>> from torch import nn
    >>> from stimuli_gen import confirm_eigendistortions, eigendistortions, stage_model
    >>> from stimuli_gen import write_stimuli
    >>> _ = torch.manual_seed(0)
    >>> layers = nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(900, 5)
    >>> model = stage_model(nn.Sequential(*layers))
    >>> import numpy as np
    >>> import pandas as pd
    >>> from stimuli_gen import StimulusSet
    >>> images = np.random.default_rng(0).random((1, 3, 32, 32), dtype="float32")
    >>> table = pd.DataFrame({"id": ["a"], "kind": "RE", "reference_id": ["a"]})
    >>> photographs = StimulusSet(images=images, table=table)
    >>> made = eigendistortions(model, photographs, stage="3")
    >>> with TemporaryDirectory() as folder:
    ...     written = write_stimuli(made, folder)
    ...     confirmed = confirm_eigendistortions(model, made, photographs, written)
    >>> confirmed.table[["success", "confirmed"]].values.tolist()
    [[True, True], [True, True]]
    """
    needed = ("end", "eigenvalue", "residual", "stage")
    need_columns(stimuli.table, needed, "the stimulus table", "It is no set of eigendistortions.")
    stage = str(stimuli.table["stage"].iloc[0])
    view, _ = at_stages(model, [stage])
    if stimuli.provenance.get("model_digest") != view.digest:
        raise InputError(
            f"the eigendistortions were made for {stimuli.provenance.get('model')}, not this "
            f"{model.name}; confirm them with the network they were made for."
        )
    pictures = read_saved(stimuli, folder, model.preprocessing.size)
    return _judge(in_double(view), stimuli, references, pictures, confirmed=True)

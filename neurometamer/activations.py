"""Responses of a network to every stimulus, stage by stage: one pass, kept on disk or in memory."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from neurometamer.arguments import check_fields, checked
from neurometamer.errors import DamagedFile, InputError, duplicates, name_ids, unknown_name
from neurometamer.provenance import digest
from neurometamer.resume import note_remade
from neurometamer.run_options import RunOptions
from neurometamer.store import new_hdf5, open_hdf5
from neurometamer.summaries import short_repr

if TYPE_CHECKING:
    from stimuli_gen.models import StagedModel
    from stimuli_gen.stimuli import StimulusSet

CONTENT = "activations"
CHUNK_VALUES = 2**18
"""Values an HDF5 chunk: 1 MiB of float32, whole rows."""


@short_repr
@dataclass(frozen=True, kw_only=True, eq=False)
class Activations:
    """Responses of a network's stages to stimuli.

    Parameters
    ----------
    ids : tuple of str
        Stimulus ids, the order of the rows.
    stages : tuple of str
        Early to late.
    n_units : mapping of str to int
        Units of each stage.
    provenance : mapping
        Model, weights, digests.
    arrays : mapping of str to ndarray, optional
        Stage to float32 (n_stimuli, n_units), when held in memory.
    path : Path, optional
        HDF5 file, when held on disk.

    Raises
    ------
    InputError
        When ids repeat, or a stage has no values or not one row a stimulus.

    Examples
    --------
    >>> features = np.array([[1, 2, 3], [1, 2, 3], [3, 2, 1], [1, 3, 2]], dtype=np.float32)
    >>> activations = Activations(
    ...     ids=("cat", "dog", "cup", "car"),
    ...     stages=("conv1",),
    ...     n_units={"conv1": 3},
    ...     arrays={"conv1": features},
    ... )
    >>> len(activations), activations.read("conv1").shape
    (4, (4, 3))
    >>> activations
    Activations(ids=4: cat, dog, cup …, stages=('conv1',), n_units='3 in all', in_memory='0.0 MiB')
    """

    ids: tuple[str, ...]
    stages: tuple[str, ...]
    n_units: Mapping[str, int]
    provenance: Mapping[str, Any] = field(default_factory=dict)
    arrays: Mapping[str, np.ndarray] | None = None
    path: Path | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        if again := duplicates(self.ids):
            raise InputError(
                f"activations: repeated stimulus id(s) {name_ids(again)}; give each stimulus once."
            )
        if self.arrays is None and self.path is None:
            raise InputError(
                f"activations of {len(self.stages)} stages have no values; give arrays in memory, "
                "or the path of a file."
            )
        for stage in self.stages:
            if self.arrays is None:
                continue
            array = self.arrays.get(stage)
            shape = None if array is None else array.shape
            expected = (len(self.ids), self.n_units.get(stage))
            if shape != expected:
                raise InputError(
                    f"activations: the array of stage '{stage}' has the shape {shape}; give one of "
                    f"shape (stimuli, units) = {expected}."
                )

    def __len__(self) -> int:
        return len(self.ids)

    def _summary(self) -> dict[str, Any]:
        names = ("model", "weights", "trained")
        shown = {name: self.provenance[name] for name in names if name in self.provenance}
        shown["ids"] = self.ids
        shown["stages"] = self.stages
        n_units = sum(self.n_units[stage] for stage in self.stages)
        shown["n_units"] = f"{n_units} in all"
        if self.arrays is None:
            shown["path"] = str(self.path)
        else:
            n_bytes = sum(array.nbytes for array in self.arrays.values())
            shown["in_memory"] = f"{n_bytes / 2**20:.1f} MiB"
        return shown

    def read(self, stage: str) -> np.ndarray:
        """Return one stage's responses.

        Parameters
        ----------
        stage : str
            One of `stages`.

        Returns
        -------
        ndarray, shape (n_stimuli, n_units)
            float32, rows in the order of `ids`, units flattened in the module's order (channel,
            row, column).

        Raises
        ------
        InputError
            When the stage is unknown.
        """
        if stage not in self.stages:
            raise unknown_name("stage", stage, self.stages)
        if self.arrays is not None:
            return self.arrays[stage]
        with open_hdf5(str(self.path)) as file:
            stages = json.loads(file.attrs["stages"])
            return file[_dataset(stages, stage)][...]


def _dataset(stages: Sequence[str], stage: str) -> str:
    """Name datasets by number: a stage's name may hold a slash."""
    names = list(stages)
    number = names.index(stage)
    return f"stages/{number:03d}"


@checked
def compute_activations(
    model: StagedModel,
    stimuli: StimulusSet,
    *,
    stages: Sequence[str] | None = None,
    path: str | os.PathLike[str] | None = None,
    run: RunOptions | None = None,
) -> Activations:
    """Run all stimuli through a network once and keep the responses of its stages.

    Parameters
    ----------
    model : StagedModel
        The network; it runs up to the deepest stage asked for.
    stimuli : StimulusSet
        Images of the size that the network wants; read batch by batch.
    stages : sequence of str, optional
        Names, ``"early"``, ``"middle"``, ``"late"`` or fractions of depth as text
        (`stimuli_gen.resolve_stage`); all stages by default. Kept in the network's order, whatever
        the order asked.
    path : path-like, optional
        HDF5 file for the responses, written as they come; in memory when not given. An existing
        file for the same model, images and stages is used as it is, unless it is damaged.
    run : RunOptions, optional
        Its ``batch_size`` and ``progress`` are used; progress is called with the number of finished
        images and their total. The last batch is filled up, so that an image's responses do not
        depend on its companions; another batch size may change the last digit of float32.

    Returns
    -------
    Activations
        One row a stimulus.

    Raises
    ------
    InputError
        For an unknown stage, no stimuli, images of another size, or a `path` that holds something
        else.

    Examples
    --------
    >>> import pandas as pd
    >>> from torch import nn
    >>> import stimuli_gen as sg
    >>> size = sg.Preprocessing(
    ...     size=(8, 8), resize=8, interpolation="bilinear", mean=(0.0,) * 3, std=(1.0,) * 3
    ... )
    >>> model = sg.stage_model(
    ...     nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten(), nn.Linear(72, 2)),
    ...     stages={"conv1": "0", "output": "2"},
    ...     preprocessing=size,
    ...     class_names=["animal", "object"],
    ...     name="tiny",
    ...     weights="random",
    ...     trained=False,
    ... )
    >>> ids = ["cat", "dog", "cup", "car"]
    >>> pixels = np.random.default_rng(0).integers(0, 256, (4, 3, 8, 8)).astype("f4") / 255
    >>> table = pd.DataFrame({"id": ids, "kind": "RE", "reference_id": ids})
    >>> stimuli = sg.StimulusSet(images=pixels, table=table)
    >>> activations = compute_activations(model, stimuli)
    >>> dict(activations.n_units), activations.read("output").shape
    ({'conv1': 72, 'output': 2}, (4, 2))
    """
    model, ordered, provenance = plan_activations(model, stimuli, stages)
    if path is not None and Path(path).exists():
        try:
            is_done = read_identity(path) == provenance["identity"]
        except DamagedFile:
            is_done = False
            note_remade(path)
        if is_done:
            return read_activations(path)
    if path is None:
        arrays = stream_activations(
            model, stimuli, ordered, lambda stage, shape: np.empty(shape, "f4"), run=run
        )
        return Activations(
            ids=stimuli.ids,
            stages=ordered,
            n_units={stage: arrays[stage].shape[1] for stage in ordered},
            provenance=provenance,
            arrays=arrays,
        )
    with _new_file(path, stimuli.ids, ordered, provenance) as create:
        stream_activations(model, stimuli, ordered, create, run=run)
    return read_activations(path)


def plan_activations(
    model: StagedModel, stimuli: StimulusSet, stages: Sequence[str] | None
) -> tuple[StagedModel, tuple[str, ...], dict[str, Any]]:
    """Find the requested stages of a network and describe them.

    Parameters
    ----------
    model : StagedModel
        The network.
    stimuli : StimulusSet
        The images.
    stages : sequence of str or None
        Stages in any order, by name or depth (`stimuli_gen.resolve_stage`); all when None.

    Returns
    -------
    model : StagedModel
        The network, or a view of it that names the stages.
    stages : tuple of str
        In the network's order.
    provenance : dict
        Model, weights and digests, device and its arithmetic.

    Raises
    ------
    InputError
        For an unknown stage, no stage or no stimuli.
    """
    from stimuli_gen.batches import arithmetic
    from stimuli_gen.depth import at_stages

    requested = tuple(model.stages) if stages is None else tuple(stages)
    if not requested or not len(stimuli):
        raise InputError(
            f"activations of {len(requested)} stages and {len(stimuli)} stimuli; give at least one "
            "of each."
        )
    model, ordered = at_stages(model, requested)
    return (
        model,
        ordered,
        {
            "model": model.name,
            "weights": model.weights,
            "trained": model.trained,
            "model_digest": model.digest,
            "stimuli_digest": stimuli.digest,
            "identity": digest(model.digest, stimuli.digest, list(ordered)),
            **arithmetic(model.device),
        },
    )


def stream_activations(
    model: StagedModel,
    stimuli: StimulusSet,
    stages: Sequence[str],
    create: Callable[[str, tuple[int, int]], Any],
    *,
    run: RunOptions | None = None,
) -> dict[str, Any]:
    """Stream the images through the network into arrays, datasets or anything that takes rows.

    Parameters
    ----------
    model : StagedModel
        The network.
    stimuli : StimulusSet
        The images.
    stages : sequence of str
        In the network's order.
    create : callable
        Called at the first batch as ``create(stage, (n_stimuli, n_units))``; what it returns is
        filled by ``target[rows] = values``, rows a slice and values float32 (rows, n_units), from
        first to last.
    run : RunOptions, optional
        Its ``batch_size`` and ``progress`` are used.

    Returns
    -------
    dict of str to object
        Stage to what `create` returned, filled.
    """
    from stimuli_gen.batches import host_batches

    run = run or RunOptions()

    def _responses(batch: Any) -> dict[str, Any]:
        responses = model.activations(batch, stages)
        return {stage: response.flatten(1).float() for stage, response in responses.items()}

    targets: dict[str, Any] = {}
    batches = host_batches(_responses, stimuli.images, run.batch_size, model.device)
    for rows, responses in batches:
        for stage, values in responses.items():
            if stage not in targets:
                shape = (len(stimuli), values.shape[1])
                targets[stage] = create(stage, shape)
            targets[stage][rows] = values.numpy()
        if run.progress is not None:
            run.progress(rows.stop, len(stimuli))
    return targets


@contextmanager
def _new_file(
    path: str | os.PathLike[str],
    ids: Sequence[str],
    stages: Sequence[str],
    provenance: Mapping[str, Any],
) -> Iterator[Callable[[str, tuple[int, int]], Any]]:
    """Open a new activation file for filling; it gets its name only when it is whole."""
    import h5py

    with new_hdf5(path) as file:
        file.create_dataset("ids", data=list(ids), dtype=h5py.string_dtype())
        file.attrs["content"] = json.dumps(CONTENT)
        file.attrs["stages"] = json.dumps(list(stages))
        file.attrs["provenance"] = json.dumps(dict(provenance), sort_keys=True)

        def create(stage: str, shape: tuple[int, int]) -> Any:
            n_stimuli, n_units = shape
            n_rows = max(1, min(n_stimuli, CHUNK_VALUES // n_units))
            chunks = (n_rows, n_units)
            return file.create_dataset(
                _dataset(stages, stage), shape=shape, dtype="f4", chunks=chunks
            )

        yield create


def read_identity(path: str | os.PathLike[str]) -> str:
    """Read which model, images and stages an activation file is of.

    Parameters
    ----------
    path : path-like
        An existing file.

    Returns
    -------
    str
        Digest.

    Raises
    ------
    InputError
        When the file holds something else, so that nobody's data is written over.
    """
    with open_hdf5(path) as file:
        content = file.attrs.get("content")
        if content != json.dumps(CONTENT):
            raise InputError(f"{path} exists and does not hold activations; choose another path.")
        text = file.attrs["provenance"]
    provenance = json.loads(text)
    return provenance["identity"]


@checked
def read_activations(path: str | os.PathLike[str]) -> Activations:
    """Open an activation file; the values stay on disk until `Activations.read`.

    Parameters
    ----------
    path : path-like
        File that `compute_activations` wrote.

    Returns
    -------
    Activations
        Backed by the file.

    Raises
    ------
    InputError
        When the file is missing or holds something else.

    Examples
    --------
    >>> import tempfile
    >>> import pandas as pd
    >>> from torch import nn
    >>> import stimuli_gen as sg
    >>> size = sg.Preprocessing(
    ...     size=(8, 8), resize=8, interpolation="bilinear", mean=(0.0,) * 3, std=(1.0,) * 3
    ... )
    >>> model = sg.stage_model(
    ...     nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten(), nn.Linear(72, 2)),
    ...     stages={"conv1": "0", "output": "2"},
    ...     preprocessing=size,
    ...     class_names=["animal", "object"],
    ...     name="tiny",
    ...     weights="random",
    ...     trained=False,
    ... )
    >>> ids = ["cat", "dog", "cup", "car"]
    >>> pixels = np.random.default_rng(0).integers(0, 256, (4, 3, 8, 8)).astype("f4") / 255
    >>> table = pd.DataFrame({"id": ids, "kind": "RE", "reference_id": ids})
    >>> stimuli = sg.StimulusSet(images=pixels, table=table)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = compute_activations(model, stimuli, path=Path(folder, "activations.h5"))
    ...     activations = read_activations(Path(folder, "activations.h5"))
    ...     activations.read("conv1").shape
    (4, 72)
    """
    read_identity(path)
    with open_hdf5(path) as file:
        stages = tuple(json.loads(file.attrs["stages"]))
        n_units = {}
        for stage in stages:
            _, n_units[stage] = file[_dataset(stages, stage)].shape
        return Activations(
            ids=tuple(file["ids"].asstr()[...]),
            stages=stages,
            n_units=n_units,
            provenance=json.loads(file.attrs["provenance"]),
            path=Path(path),
        )

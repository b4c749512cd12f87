"""RDMs from a network's forward pass, without the responses of all images in memory.

Each image's responses are reduced at once to what the measure needs (ranks, or the responses
themselves, float32) and written to a scratch file, one a stage. Afterwards each file is read a
block of units at a time, by the same code that works on arrays in memory, so that the numbers are
the same to the last bit.
"""

from __future__ import annotations

import math
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np

from neurometamer.activations import plan_activations, stream_activations
from neurometamer.arguments import checked
from neurometamer.errors import InputError
from neurometamer.rsa.compute import check_enough, find_measure, network_rdms
from neurometamer.rsa.measures import Measure, RowRange, check_ranges
from neurometamer.run_options import RunOptions

if TYPE_CHECKING:
    from rsatoolbox.rdm import RDMs

    from stimuli_gen.models import StagedModel
    from stimuli_gen.stimuli import StimulusSet


class RowFile:
    """Rows on disk: written one by one, read a block of columns at a time. Use it as a context.

    Plain reads, not a memory map: pages of a map count as memory of the process until the system
    wants them back.

    Parameters
    ----------
    path : path-like
        New file; the caller removes it.
    shape : tuple of int
        Rows and columns.
    dtype : dtype
        Type of the values.
    """

    def __init__(
        self, path: str | os.PathLike[str], shape: tuple[int, int], dtype: np.dtype
    ) -> None:
        self.shape = shape
        self.dtype = np.dtype(dtype)
        self._file = Path(path).open("w+b", buffering=0)  # noqa: SIM115 - closed by __exit__

    def __enter__(self) -> RowFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def write(self, index: int, row: np.ndarray) -> None:
        """Write one row.

        Parameters
        ----------
        index : int
            Position of the row.
        row : ndarray, shape (n_columns,)
            Its values.
        """
        values = np.ascontiguousarray(row, dtype=self.dtype)
        left = memoryview(values.tobytes())
        self._file.seek(index * self.shape[1] * self.dtype.itemsize)
        while left:  # an unbuffered write may write a part
            n_written = self._file.write(left) or 0
            left = left[n_written:]

    def __getitem__(self, key: tuple[slice, slice]) -> np.ndarray:
        n_rows, n_columns = self.shape
        rows = range(*key[0].indices(n_rows))
        start, stop, _ = key[1].indices(n_columns)
        block = np.empty((len(rows), stop - start), dtype=self.dtype)
        for values, row in zip(block, rows):
            offset = row * n_columns + start
            self._file.seek(offset * self.dtype.itemsize)
            left = memoryview(values.view(np.uint8))
            while left:
                n_read = self._file.readinto(left)
                if not n_read:
                    raise OSError(f"scratch file ends before row {row}; was it cut?")
                left = left[n_read:]
        return block


class _Stage:
    """Responses of one stage, reduced as they come to the rows that the measure needs."""

    def __init__(self, path: Path, shape: tuple[int, int], measure: Measure) -> None:
        self.measure = measure
        self.shape = shape
        self.seen: list[RowRange] = []
        self.kept: list[RowRange] = []
        self._path = path
        self._rows: RowFile | None = None

    def __setitem__(self, rows: slice, values: np.ndarray) -> None:
        prepare = self.measure.prepare
        for index, row in enumerate(values, start=rows.start):
            kept = row
            seen = kept_range = RowRange.of(row)
            if prepare is not None:
                kept = prepare(row)
                kept_range = RowRange.of(kept)
            self.seen.append(seen)
            self.kept.append(kept_range)
            if self._rows is None:
                self._rows = RowFile(
                    self._path,
                    self.shape,
                    kept.dtype,
                )
            self._rows.write(index, kept)

    def finish(self, ids: Sequence[str], place: str) -> np.ndarray:
        """Compute the RDM and give the disk space back."""
        assert self._rows is not None and self.measure.compute is not None
        with self._rows as rows:
            check_ranges(self.seen, ids, self.measure, place)
            rdm = self.measure.compute(rows, self.kept)
        self._path.unlink()
        return rdm

    def close(self) -> None:
        """Close the file, also after an error."""
        if self._rows is not None:
            self._rows.__exit__(None, None, None)


@checked
def streamed_rdms(
    model: StagedModel,
    stimuli: StimulusSet,
    *,
    stages: Sequence[str] | None = None,
    measure: str = "spearman",
    scratch: str | os.PathLike[str] | None = None,
    run: RunOptions | None = None,
) -> RDMs:
    """Compute one RDM a network stage in one pass over the images, with little memory.

    Parameters
    ----------
    model : StagedModel
        The network; it runs up to the deepest stage asked for.
    stimuli : StimulusSet
        Images of the size that the network wants.
    stages : sequence of str, optional
        Names or depths, see `neurometamer.compute_activations`; all stages by default.
    measure : str
        One of `neurometamer.rsa.measures.MEASURES` that needs no repeats.
    scratch : path-like, optional
        Folder for the scratch files (4 bytes a unit and image, gone at the end); the system's own
        by default, which on some machines is memory: then give a folder on disk.
    run : RunOptions, optional
        Its ``batch_size`` and ``progress`` are used; progress is called with the number of finished
        images and their total.

    Returns
    -------
    rsatoolbox.rdm.RDMs
        Equal to ``activation_rdms(compute_activations(model, stimuli), stimuli.table)``.

    Raises
    ------
    InputError
        For an unknown stage or measure, a measure that needs repeats, fewer than 4 stimuli, a
        stimulus for which the measure is undefined, or a scratch folder without enough space.

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
    >>> streamed_rdms(model, stimuli, measure="pearson", stages=["conv1"]).rdm_descriptors["stage"]
    ['conv1']
    """
    known = find_measure(measure)
    if known.needs:
        raise InputError(
            f"{measure} needs repeated presentations, and a network answers the same each time; "
            "give another measure."
        )
    if scratch is not None and not Path(scratch).is_dir():
        raise InputError(
            f"scratch: {scratch} is no folder; make it, or name another (scratch, --scratch)."
        )
    model, ordered, provenance = plan_activations(model, stimuli, stages)
    check_enough(stimuli.ids, "stimuli")
    targets: dict[str, _Stage] = {}
    with tempfile.TemporaryDirectory(dir=scratch, prefix="neurometamer-rdm-") as folder:

        def create(stage: str, shape: tuple[int, int]) -> _Stage:
            shapes = [shape, *(target.shape for target in targets.values())]
            n_bytes = 4 * sum(math.prod(each) for each in shapes)
            free = shutil.disk_usage(folder).free
            if n_bytes > free:
                raise InputError(
                    f"RDMs of {len(shapes)} stages or more need {n_bytes / 1e9:.1f} GB of scratch "
                    f"space, {Path(folder).parent} has {free / 1e9:.1f}; give another scratch "
                    "folder, or fewer stages."
                )
            path = Path(folder, f"{len(targets):03d}.rows")
            targets[stage] = _Stage(path, shape, known)
            return targets[stage]

        try:
            stream_activations(model, stimuli, ordered, create, run=run)
            vectors = []
            for stage in ordered:
                rdm = targets[stage].finish(stimuli.ids, f"stage '{stage}'")
                vectors.append(rdm)
        finally:
            for target in targets.values():
                target.close()
    n_units = {stage: targets[stage].shape[1] for stage in ordered}
    return network_rdms(np.array(vectors), stimuli.table, n_units, measure, provenance)

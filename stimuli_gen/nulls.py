"""Measure how alike a network's responses to two different photographs are.

The values are the null distribution of a metamer's match.

Every image runs through the network once. What pairs need then are inner products: those of the
responses give Pearson's r and the signal-to-noise ratio, those of their centered ranks Spearman's
rho. They are computed tile by tile (`TILE` × `TILE` images) in float64, so that a million pairs
take minutes, not days, in little memory.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain, pairwise, product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from neurometamer.arguments import check_fields, checked
from neurometamer.errors import DamagedFile, InputError, name_ids, unknown_name
from neurometamer.provenance import digest, generator, provenance
from neurometamer.resume import note_remade, only_process, refuse_links_out
from neurometamer.store import hdf5_content, read_hdf5_array, read_hdf5_attributes, write_hdf5
from neurometamer.summaries import short_repr
from stimuli_gen.similarity import METRICS, finite_responses, snr_from_squares
from stimuli_gen.synthesis.checkpoint import deferred_interrupt

if TYPE_CHECKING:
    from stimuli_gen.models import StagedModel
    from stimuli_gen.stimuli import StimulusSet

CONTENT = "null distribution"
TILE = 64
"""Images a side of a tile."""
COLUMNS = 16384
"""Units turned to float64 at a time."""
SAVE_SECONDS = 60.0
"""At most so much work is lost when the process is killed."""
EXACT_FLOAT32 = 2**23
"""Below so many units a centered average rank (a multiple of one half) is exact in float32."""
DOUBTFUL = 1e-9
"""Squared distances below this share of the squared norms lost digits in the subtraction: taken
again, directly."""


@short_repr
@dataclass(frozen=True, kw_only=True, eq=False)
class NullDistribution:
    """Similarity of a network's responses to pairs of different images.

    Parameters
    ----------
    ids : tuple of str
        Ids of the images.
    pairs : ndarray
        (n_pairs, 2) int, places in `ids`: the first image is the signal of the signal-to-noise
        ratio.
    stages : tuple of str
        Stages, in the order of `values`.
    values : ndarray
        (n_stages, n_metrics, n_pairs) float64; metrics in the order of
        `stimuli_gen.similarity.METRICS`.
    provenance : mapping
        Model, weights, digests of model and images, seed, pairs asked for.

    Raises
    ------
    InputError
        When the shapes do not belong together.

    Examples
    --------
    >>> import numpy as np
    >>> from stimuli_gen import NullDistribution
    >>> pairs = np.array([[0, 1], [1, 0], [0, 2], [2, 0]])
    >>> values = np.tile([0.1, 0.2, 0.3, 0.4], (1, 4, 1))
    >>> null = NullDistribution(ids=("a", "b", "c"), pairs=pairs, stages=("late",), values=values)
    >>> null.limit("late", "pearson"), null.limit("late", "pearson", quantile=0.5)
    (0.4, 0.2)
    """

    ids: tuple[str, ...]
    pairs: np.ndarray
    stages: tuple[str, ...]
    values: np.ndarray
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_fields(self)
        expected = (len(self.stages), len(METRICS), len(self.pairs))
        if self.values.shape != expected or not len(self.pairs):
            raise InputError(
                f"null distribution: values of shape {self.values.shape} where {expected} belongs; "
                "make the null again."
            )

    @property
    def model_digest(self) -> str:
        """Digest of the network that was measured.

        Returns
        -------
        str
            `StagedModel.digest`.
        """
        known = self.provenance.get("model_digest", "")
        return str(known)

    def read(self, stage: str, metric: str) -> np.ndarray:
        """Return the values of one stage and metric.

        Parameters
        ----------
        stage : str
            One of `stages`.
        metric : str
            A key of `stimuli_gen.similarity.METRICS`.

        Returns
        -------
        ndarray
            (n_pairs,) float64.

        Raises
        ------
        InputError
            When the stage or the metric is unknown.
        """
        if stage not in self.stages:
            raise unknown_name("stage of this null distribution", stage, self.stages)
        if metric not in METRICS:
            raise unknown_name("metric", metric, METRICS)
        row = self.stages.index(stage)
        metrics = list(METRICS)
        column = metrics.index(metric)
        return self.values[row, column]

    def limit(self, stage: str, metric: str, quantile: float = 1.0) -> float:
        """Return what a match must be above.

        Parameters
        ----------
        stage, metric : str
            See `read`.
        quantile : float
            Quantile of the values, in (0, 1]; 1 is their maximum, the criterion of Feather et al.
            (2023).

        Returns
        -------
        float
            The smallest value that is at least as large as this share of them.

        Raises
        ------
        InputError
            When the stage or the metric is unknown, or the quantile outside (0, 1].
        """
        if not 0 < quantile <= 1:
            raise InputError(
                "the quantile of a null distribution must be above 0 and at most 1, not "
                f"{quantile}; give such a quantile."
            )
        ordered = np.sort(self.read(stage, metric))
        rank = int(np.ceil(quantile * len(ordered)))
        return float(ordered[rank - 1])

    def stage_of(self, model: StagedModel, stage: str) -> str | None:
        """Find which of its stages a network's stage is, whatever else that network's view names.

        Parameters
        ----------
        model : StagedModel
            The network, or a view of it with other stages.
        stage : str
            A stage of that.

        Returns
        -------
        str or None
            None where the null is of another network, of other weights or of another input size, or
            lacks the stage.
        """
        if self.provenance.get("network_digest") == model.network_digest:
            for name, path in self.provenance.get("modules", {}).items():
                if path == model.stages[stage]:
                    return name
            return None
        if self.model_digest == model.digest and stage in self.stages:
            return stage
        return None

    def exceedance(self, stage: str, metric: str, values: np.ndarray) -> np.ndarray:
        """Tell how often a pair of different images is at least as alike.

        Parameters
        ----------
        stage, metric : str
            See `read`.
        values : ndarray
            (n,) values of that metric.

        Returns
        -------
        ndarray
            (n,), (1 + pairs at least as alike) / (1 + pairs): a permutation p value if the pairs
            were independent, which pairs that share images are not.
        """
        ordered = np.sort(self.read(stage, metric))
        exact = np.asarray(values, dtype=np.float64)
        below = np.searchsorted(ordered, exact, side="left")
        n = len(ordered)
        at_least = n - below
        return (1 + at_least) / (1 + n)

    def summary(self) -> pd.DataFrame:
        """Tabulate the distribution.

        Returns
        -------
        pandas.DataFrame
            One row a stage and metric: stage, metric, n_images, n_pairs, mean, sd, q95, max.
        """
        rows = []
        for stage, metric in product(self.stages, METRICS):
            values = self.read(stage, metric)
            rows.append(
                {
                    "stage": stage,
                    "metric": metric,
                    "n_images": len(self.ids),
                    "n_pairs": len(self.pairs),
                    "mean": values.mean(),
                    "sd": values.std() if np.isfinite(values).all() else np.nan,
                    "q95": np.quantile(values, 0.95, method="lower"),
                    "max": values.max(),
                }
            )
        return pd.DataFrame(rows)


@checked
def null_distribution(
    model: StagedModel,
    stimuli: StimulusSet,
    stages: Sequence[str],
    *,
    n_pairs: int = 1_000_000,
    seed: int = 0,
    path: str | os.PathLike[str] | None = None,
    batch_size: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> NullDistribution:
    """Measure how alike a network's responses to random pairs of different images are.

    Parameters
    ----------
    model : StagedModel
        The network.
    stimuli : StimulusSet
        At least two images, no two with the same pixels.
    stages : sequence of str
        Stages to measure, all from one pass over the images.
    n_pairs : int
        Ordered pairs to draw, without replacement; every pair is taken once when there are no more
        than that, n · (n - 1). Feather et al. (2023) draw 1,000,000 from ImageNet's training
        images.
    seed : int
        Seed of the draw.
    path : path-like, optional
        HDF5 file that keeps the result. If it is there and of the same model, images, stages, pairs
        and seed, it is read and nothing is computed; if it is damaged, it is made again. While it
        is made, ``<path>.parts`` beside it holds the responses (about 8 bytes a unit and image)
        and, at least once a minute, what is done; the same call goes on from there.
    batch_size : int, optional
        Images a pass; by default 8 on a CPU, elsewhere as many as memory allows.
    progress : callable, optional
        Called with (images run and pairs compared so far, in all), pairs over all stages.

    Returns
    -------
    NullDistribution
        Pairs in a fixed order that does not depend on interruptions.

    Raises
    ------
    InputError
        When a stage is unknown, there are fewer than two images or pairs below 1, two images have
        the same pixels, a response is not finite, or `path` holds something else.

    Notes
    -----
    Feather et al. (2023) draw pairs of augmented training crops; here the images are used as they
    are. All-zero responses give 0 for every metric, as in their code.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from stimuli_gen import null_distribution, stage_model
    >>> _ = torch.manual_seed(0)
    >>> layers = nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(900, 5)
    >>> model = stage_model(nn.Sequential(*layers))
    >>> import numpy as np
    >>> import pandas as pd
    >>> from stimuli_gen import StimulusSet
    >>> images = np.random.default_rng(0).random((2, 3, 32, 32), dtype="float32")
    >>> table = pd.DataFrame({"id": ["a", "b"], "kind": "RE", "reference_id": ["a", "b"]})
    >>> photographs = StimulusSet(images=images, table=table)
    >>> null = null_distribution(model, photographs, stages=["1"])
    >>> null.pairs.tolist(), null.stages
    ([[0, 1], [1, 0]], ('1',))
    """
    ordered = _check(model, stimuli, stages, n_pairs)
    identity = {
        "model_digest": model.digest,
        "stimuli_digest": stimuli.digest,
        "stages": list(ordered),
        "n_pairs_asked": n_pairs,
        "seed": seed,
    }
    if path is not None:
        kept = _kept(path, identity)
        if kept is not None:
            return kept
    from stimuli_gen.batches import arithmetic

    pairs = draw_pairs(len(stimuli), n_pairs, seed)
    with _scratch(path) as folder:
        work = _Work(model, stimuli, ordered, pairs, folder, digest(identity, TILE))
        values = work.run(batch_size, progress)
        record = provenance(
            identity,
            content=CONTENT,
            model=model.name,
            weights=model.weights,
            trained=model.trained,
            network_digest=model.network_digest,
            modules={stage: model.stages[stage] for stage in ordered},
            **arithmetic(model.device),
            **identity,
        )
        made = NullDistribution(
            ids=stimuli.ids, pairs=pairs, stages=ordered, values=values, provenance=record
        )
        if path is not None:
            write_hdf5(
                path,
                arrays={"values": values, "pairs": pairs, "ids": np.array(stimuli.ids)},
                attributes={"content": CONTENT, "metrics": list(METRICS), "provenance": record},
            )
    return made


@checked
def read_null(path: str | os.PathLike[str]) -> NullDistribution:
    """Read a null distribution that `null_distribution` wrote.

    Parameters
    ----------
    path : path-like
        HDF5 file.

    Returns
    -------
    NullDistribution
        As it was made.

    Raises
    ------
    InputError
        When the file is missing or holds something else.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> import torch
    >>> from torch import nn
    >>> from stimuli_gen import null_distribution, read_null, stage_model
    >>> _ = torch.manual_seed(0)
    >>> layers = nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(900, 5)
    >>> model = stage_model(nn.Sequential(*layers))
    >>> import numpy as np
    >>> import pandas as pd
    >>> from stimuli_gen import StimulusSet
    >>> images = np.random.default_rng(0).random((2, 3, 32, 32), dtype="float32")
    >>> table = pd.DataFrame({"id": ["a", "b"], "kind": "RE", "reference_id": ["a", "b"]})
    >>> photographs = StimulusSet(images=images, table=table)
    >>> with TemporaryDirectory() as folder:
    ...     path = f"{folder}/null.h5"
    ...     null = null_distribution(model, photographs, stages=["1"], path=path)
    ...     read_null(path).stages
    ('1',)
    """
    attributes = _attributes(path)
    record = attributes["provenance"]
    if attributes.get("metrics") != list(METRICS):
        raise InputError(
            f"{path} holds other metrics ({attributes.get('metrics')}); make the null again."
        )
    return NullDistribution(
        ids=tuple(read_hdf5_array(path, "ids").tolist()),
        pairs=read_hdf5_array(path, "pairs"),
        stages=tuple(record["stages"]),
        values=read_hdf5_array(path, "values"),
        provenance=record,
    )


def _attributes(path: str | os.PathLike[str]) -> dict[str, Any]:
    content = hdf5_content(path)
    if content != CONTENT:
        raise InputError(
            f"{path} is no file of 'neurometamer stimuli null': it holds {content}; give another."
        )
    return read_hdf5_attributes(path)


def _kept(path: str | os.PathLike[str], identity: Mapping[str, Any]) -> NullDistribution | None:
    """Read the result of an earlier call.

    Returns None when there is no file or it is damaged; a result of other settings is refused.
    """
    if not Path(path).exists():
        return None
    try:
        record = _attributes(path)["provenance"]
        if differing := [name for name, value in identity.items() if record.get(name) != value]:
            raise InputError(
                f"{path} holds a null distribution made otherwise (other {name_ids(differing)}); "
                "choose another."
            )
        return read_null(path)
    except DamagedFile:
        note_remade(path)
        return None


def _check(
    model: StagedModel, stimuli: StimulusSet, stages: Sequence[str], n_pairs: int
) -> tuple[str, ...]:
    for stage in stages:
        if stage not in model.stages:
            raise unknown_name(f"stage of {model.name}", stage, model.stages)
    if not stages:
        raise InputError(f"name at least one stage of {model.name}: {', '.join(model.stages)}.")
    if len(stimuli) < 2:
        raise InputError(
            f"a null distribution needs at least 2 different images, not {len(stimuli)}; give more."
        )
    if n_pairs < 1:
        raise InputError(f"a null distribution needs at least 1 pair, not {n_pairs}; give n_pairs.")
    pixel_digests = pd.Series(
        [digest(stimuli.images[slice(row, row + 1)]) for row in range(len(stimuli))],
        index=stimuli.ids,
    )
    same = pixel_digests.index[pixel_digests.duplicated(keep=False)]
    if len(same):
        raise InputError(
            f"images with the same pixels: {name_ids(same)}; a pair must be of different images, "
            "leave the copies out."
        )
    return tuple(stage for stage in model.stages if stage in set(stages))


def draw_pairs(n: int, n_pairs: int, seed: int) -> np.ndarray:
    """Draw ordered pairs of different images, no pair twice.

    Parameters
    ----------
    n : int
        Images, at least 2.
    n_pairs : int
        Pairs to draw; all n · (n - 1) if there are no more.
    seed : int
        Seed of the draw.

    Returns
    -------
    ndarray
        (min(n_pairs, n · (n - 1)), 2) int64, ordered by tile, so that pairs of the same images come
        together.
    """
    total = n * (n - 1)
    random = generator(seed, "null pairs", n)
    drawn = random.choice(total, size=min(n_pairs, total), replace=False)
    first, rest = np.divmod(drawn, n - 1)
    second = rest + (rest >= first)
    pairs = np.stack([first, second], axis=1)
    low = pairs.min(axis=1)
    high = pairs.max(axis=1)
    order = np.lexsort((first, high, low, high // TILE, low // TILE))
    return pairs[order]


@contextmanager
def _scratch(path: str | os.PathLike[str] | None) -> Iterator[Path]:
    """Provide a folder for the responses.

    A folder beside `path` outlives an interruption, but no bad input.
    """
    if path is None:
        with tempfile.TemporaryDirectory(prefix="neurometamer-null-") as name:
            yield Path(name)
        return
    folder = Path(f"{path}.parts")
    refuse_links_out(folder)
    with only_process(folder / "lock", folder):
        try:
            yield folder
        except InputError:
            shutil.rmtree(folder)
            raise
        shutil.rmtree(folder)


class _Work:
    """Make one null distribution: responses on disk, then tile after tile.

    The state is saved at intervals.
    """

    def __init__(
        self,
        model: StagedModel,
        stimuli: StimulusSet,
        stages: Sequence[str],
        pairs: np.ndarray,
        folder: Path,
        key: str,
    ) -> None:
        self.model = model
        self.stimuli = stimuli
        self.stages = stages
        self.pairs = pairs
        self.folder = folder
        self.key = key
        shape = (len(stages), len(METRICS), len(pairs))
        self.values = np.full(shape, np.nan)
        self.n_images = 0
        self.n_done = 0  # pairs, over all stages
        self.sizes = [0] * len(stages)  # units of each stage
        self.checksums = {}
        for index in range(len(stages)):
            for path in self._files(index):
                self.checksums[path] = hashlib.sha256()
        self.saved = time.monotonic()

    def run(
        self, batch_size: int | None, progress: Callable[[int, int], None] | None
    ) -> np.ndarray:
        """Return the values: (n_stages, n_metrics, n_pairs).

        Work of the same key goes on from its saved state, to which the files are cut back; other
        work begins with empty files.
        """
        state = self.folder / "state.h5"
        try:
            saved = read_hdf5_attributes(state) if state.is_file() else {}
            is_of_this_work = saved.get("key") == self.key
            if is_of_this_work and self._check_files(saved):
                self.values = read_hdf5_array(state, "values")
                self.n_images = saved["n_images"]
                self.n_done = saved["n_done"]
                self.sizes = saved["sizes"]
        except DamagedFile:
            note_remade(state)
        for index, units in enumerate(self.sizes):
            for path, kind in zip(self._files(index), _kinds(units), strict=True):
                n_values = self.n_images * units
                path.touch()
                os.truncate(path, n_values * kind.itemsize)
        n_pairs = len(self.stages) * len(self.pairs)
        total = len(self.stimuli) + n_pairs
        try:
            with deferred_interrupt() as stop:
                for _ in chain(self._run_images(batch_size), self._compare_pairs()):
                    if time.monotonic() - self.saved >= SAVE_SECONDS:
                        self._save()
                    if progress is not None:
                        n_done = self.n_images + self.n_done
                        progress(n_done, total)
                    if stop.requested:
                        stop.stop()
        except BaseException:  # Ctrl-C included
            self._save()
            raise
        return self.values

    def _run_images(self, batch_size: int | None) -> Iterator[None]:
        """Run every image once and append its responses and their centered ranks to files."""
        from stimuli_gen.batches import batch_shape, host_batches, images_at_once

        def responses_of(batch: Any) -> dict[str, Any]:
            responses = self.model.activations(batch, self.stages)
            return {stage: values.flatten(1).float() for stage, values in responses.items()}

        size = batch_shape(images_at_once(batch_size, self.model.device))
        while self.n_images < len(self.stimuli):
            first = self.n_images
            images = self.stimuli.images[first : first + size]
            for rows, responses in host_batches(responses_of, images, size, self.model.device):
                ids = self.stimuli.ids[first + rows.start : first + rows.stop]
                for index, stage in enumerate(self.stages):
                    values = responses[stage].numpy()
                    finite_responses(values, f"{self.model.name}, stage '{stage}'", ids)
                    self.sizes[index] = values.shape[1]
                    blocks = (values, centered_ranks(values))
                    for path, block in zip(self._files(index), blocks, strict=True):
                        contents = block.tobytes()
                        with path.open("ab") as file:  # plain writes: a full disk is an OSError
                            file.write(contents)
                        self.checksums[path].update(contents)
                self.n_images = first + rows.stop
                # smaller where memory ran out
                size = min(size, batch_shape(rows.stop - rows.start))
                yield

    def _compare_pairs(self) -> Iterator[None]:
        """Compare the tiles that are not done, stage by stage."""
        for index, units in enumerate(self.sizes):
            if (index + 1) * len(self.pairs) <= self.n_done:
                continue
            responses = _Responses(*self._files(index), len(self.stimuli), units)
            tiles = np.sort(self.pairs, axis=1) // TILE
            changes = (tiles[1:] != tiles[:-1]).any(axis=1)
            cuts = (np.flatnonzero(changes) + 1).tolist()
            for start, stop in pairwise([0, *cuts, len(self.pairs)]):
                done = index * len(self.pairs) + stop
                if done > self.n_done:
                    self.values[index, :, start:stop] = responses.compare(self.pairs[start:stop])
                    self.n_done = done
                    yield

    def _files(self, index: int) -> tuple[Path, Path]:
        start = f"{index:03d}"
        values = self.folder / f"{start}-values.bin"
        ranks = self.folder / f"{start}-ranks.bin"
        return values, ranks

    def _save(self) -> None:
        for path in self.folder.glob("*.bin"):  # on disk before the state says so
            with path.open("r+b") as file:
                os.fsync(file.fileno())
        checksums = {path.name: checksum.hexdigest() for path, checksum in self.checksums.items()}
        attributes = {
            "key": self.key,
            "n_images": self.n_images,
            "n_done": self.n_done,
            "sizes": self.sizes,
            "checksums": checksums,
        }
        write_hdf5(self.folder / "state.h5", arrays={"values": self.values}, attributes=attributes)
        self.saved = time.monotonic()

    def _check_files(self, saved: Mapping[str, Any]) -> bool:
        """Compare the stored responses with their checksums and tell whether all are as written."""
        checksums = {}
        for index, units in enumerate(saved["sizes"]):
            for path, kind in zip(self._files(index), _kinds(units), strict=True):
                checksum = hashlib.sha256()
                n_values = saved["n_images"] * units
                n_bytes = n_values * kind.itemsize
                if path.is_file():  # its beginning, as much of it as there is
                    with path.open("rb") as file:
                        while n_bytes > 0 and (part := file.read(min(n_bytes, 2**20))):
                            checksum.update(part)
                            n_bytes -= len(part)
                checksums[path] = checksum
                known = saved["checksums"][path.name]
                if checksum.hexdigest() != known:
                    note_remade(path)
                    return False
        self.checksums = checksums
        return True


def _kinds(units: int) -> tuple[np.dtype, np.dtype]:
    """Give the types of the stored responses and of their ranks."""
    single = np.dtype(np.float32)
    if units < EXACT_FLOAT32:
        return single, single
    double = np.dtype(np.float64)
    return single, double


def centered_ranks(values: np.ndarray) -> np.ndarray:
    """Rank each row, ties sharing their average rank, centered on zero.

    Parameters
    ----------
    values : ndarray
        (n, units), finite.

    Returns
    -------
    ndarray
        (n, units) float32, exact, below 2**23 units; else float64.
    """
    from scipy.stats import rankdata

    units = values.shape[1]
    middle = (units + 1) / 2
    centered = []
    for row in values:
        ranked = rankdata(row)
        centered.append(ranked - middle)
    ranks = np.stack(centered)
    _, kind = _kinds(units)
    return ranks.astype(kind)


class _Responses:
    """The stored responses of one stage, and what each image brings to its pairs."""

    def __init__(self, values: Path, ranks: Path, n: int, units: int) -> None:
        self.n_units = units
        of_values, of_ranks = _kinds(units)
        self.values = np.memmap(values, dtype=of_values, mode="r", shape=(n, units))
        self.ranks = np.memmap(ranks, dtype=of_ranks, mode="r", shape=(n, units))
        self.mean = np.zeros(n)
        self.square = np.zeros(n)
        self.spread = np.zeros(n)
        self.rank_spread = np.zeros(n)
        for i in range(n):
            row = self.values[i].astype(np.float64)
            self.square[i] = row @ row
            if row.max() == row.min():
                self.mean[i] = row[0]
                continue
            self.mean[i] = row.mean()
            self.spread[i] = np.square(row - self.mean[i]).sum()
            self.rank_spread[i] = np.square(self.ranks[i], dtype=np.float64).sum()

    def compare(self, pairs: np.ndarray) -> np.ndarray:
        """Compare the pairs of one tile: (n_metrics, n_pairs)."""
        low = pairs.min(axis=1)
        high = pairs.max(axis=1)
        # inner products of centered ranks and of centered values
        rows, at_row = np.unique(low, return_inverse=True)
        columns, at_column = np.unique(high, return_inverse=True)
        of_ranks = np.zeros((len(rows), len(columns)))
        of_values = np.zeros((len(rows), len(columns)))
        for start in range(0, self.n_units, COLUMNS):
            part = slice(start, start + COLUMNS)
            for total, source, mean in (
                (of_ranks, self.ranks, np.zeros_like(self.mean)),
                (of_values, self.values, self.mean),
            ):
                left = source[rows, part] - mean[rows, None]  # float64: the mean is
                right = source[columns, part] - mean[columns, None]
                total += left @ right.T
        rank_product = of_ranks[at_row, at_column]
        product = of_values[at_row, at_column]
        # squared distances from the centered inner products; taken again where digits were lost
        noise = self.spread[low] + self.spread[high] - 2 * product
        noise += self.n_units * np.square(self.mean[low] - self.mean[high])
        squares = self.square[low] + self.square[high]
        for i in np.flatnonzero(noise <= DOUBTFUL * squares):
            difference = self.values[low[i]].astype(np.float64) - self.values[high[i]]
            noise[i] = difference @ difference
        is_zero = (self.square[low] == 0) | (self.square[high] == 0)
        power = snr_from_squares(self.square[pairs[:, 0]], noise, is_zero)
        metrics = [
            _correlation(rank_product, self.rank_spread[low], self.rank_spread[high]),
            _correlation(product, self.spread[low], self.spread[high]),
            power,
            power / 2,
        ]
        return np.stack(metrics)


def _correlation(product: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Divide by the spreads; 0 where one side is constant."""
    root = np.sqrt(left)
    other_root = np.sqrt(right)
    scale = root * other_root
    has_spread = scale > 0
    correlations = np.zeros_like(product)
    np.divide(product, scale, out=correlations, where=has_spread)
    return np.clip(correlations, -1, 1)

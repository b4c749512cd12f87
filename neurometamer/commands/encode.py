"""The Python twin of ``neurometamer encode``: a network and ROI patterns in, a table out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neurometamer.arguments import checked
from neurometamer.commands.rdm import read_pattern_files
from neurometamer.commands.stimuli import Progress
from neurometamer.reading import Files
from neurometamer.run_options import RunOptions
from neurometamer.store import write_table
from stimuli_gen.photographs import read_images

if TYPE_CHECKING:
    import pandas as pd


@checked
def encode_files(
    out: str | Path,
    *,
    model: str,
    images: Files,
    patterns: Files,
    weights: str = "default",
    stages: Sequence[str] = (),
    device: str = "auto",
    batch_size: int = 8,
    progress: Progress | None = None,
    seed: int = 0,
    bits: int | None = None,
    icc: str = "ignore",
    **options: Any,
) -> pd.DataFrame:
    """Predict voxels from a network's stages: trained on RE, tested on held-out RE, AI and AN.

    Parameters
    ----------
    out : path-like
        CSV to write.
    model : str
        Name of the network.
    images : sequence of path-like
        See `read_images`; together exactly the conditions of the patterns.
    patterns : sequence of path-like
        Files of ``neurometamer fmri patterns``, one a subject.
    weights : str
        See `neurometamer.zoo.load_model`.
    stages : sequence of str
        Stages; all when empty.
    device : str
        See `neurometamer.zoo.load_model`.
    batch_size : int
        Images at once.
    progress : callable, optional
        Called with (stages done, stages).
    seed : int
        Seed of folds, permutations and random weights.
    bits : int, optional
        Bits of data of 16-bit photographs, see `stimuli_gen.load_photographs`.
    icc : {"ignore", "convert"}
        Color profiles of photographs, see there.
    **options : object
        Settings of `neurometamer.encoding.fit_encoding`.

    Returns
    -------
    pandas.DataFrame
        What was written.

    Raises
    ------
    InputError
        When the input cannot be used.

    Examples
    --------
    >>> from neurometamer import InputError, encode_files
    >>> try:
    ...     encode_files("r.csv", model="alexnett", images=["photos"], patterns=["S1.h5"])
    ... except InputError as error:
    ...     print(str(error).partition("?")[0])
    unknown model 'alexnett'; did you mean 'alexnet'
    """
    from neurometamer.activations import compute_activations
    from neurometamer.encoding import fit_encoding
    from neurometamer.zoo import load_model

    network = load_model(model, weights=weights, device=device, seed=seed)
    stimuli = read_images(images, network.preprocessing, bits=bits, icc=icc)
    subjects = read_pattern_files(patterns)
    activations = compute_activations(
        network,
        stimuli,
        stages=list(stages) or None,
        run=RunOptions(batch_size=batch_size),
    )
    table = fit_encoding(
        activations, subjects, stimuli.table, seed=seed, progress=progress, **options
    )
    table = table.assign(model=network.name, weights=network.weights)
    write_table(out, table)
    return table

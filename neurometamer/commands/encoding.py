"""The command ``neurometamer encode``: a network and ROI patterns in, a table out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from neurometamer.arguments import KeywordsOf, checked
from neurometamer.commands.options import ReadingOptions, check_before_loading
from neurometamer.commands.rdms import read_pattern_files
from neurometamer.reading import Files
from neurometamer.run_options import RunOptions
from neurometamer.store import write_table
from stimuli_gen.photographs import read_images

if TYPE_CHECKING:
    import pandas as pd


@checked
def encode(
    out: str | Path,
    *,
    model: str,
    images: Files,
    patterns: Files,
    weights: str = "default",
    stages: Sequence[str] = (),
    seed: int = 0,
    reading: ReadingOptions | None = None,
    run: RunOptions | None = None,
    **options: Annotated[
        Any,
        KeywordsOf("neurometamer.encoding.design:EncodingOptions", without=("seed",)),
    ],
) -> pd.DataFrame:
    """Predict voxels from a network's stages: trained on RE, tested on held-out RE, AI and AN.

    Parameters
    ----------
    out : path-like
        CSV to write.
    model : str
        Name of the network.
    images : sequence of path-like
        Folders written by ``neurometamer stimuli``, folders of photographs, or CSV files with the
        column file; together exactly the conditions of the patterns.
    patterns : sequence of path-like
        Files of ``neurometamer fmri patterns``, one a subject.
    weights : str
        ``"default"`` (ImageNet), ``"random"`` (untrained), or a file.
    stages : sequence of str
        Stages of the network: names, early, middle, late, or fractions of depth; all when empty.
    seed : int
        Seed of folds, permutations and random weights.
    reading : ReadingOptions, optional
        How photographs are read.
    run : RunOptions, optional
        Device, number of images at a time and callback for progress.
    **options : object
        Fields of `neurometamer.encoding.EncodingOptions`.

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
    >>> from neurometamer import InputError
    >>> from neurometamer.commands import encode
    >>> try:
    ...     encode("r.csv", model="alexnett", images=["photos"], patterns=["S1.h5"])
    ... except InputError as error:
    ...     print(str(error).partition("?")[0])
    unknown model 'alexnett'; did you mean 'alexnet'
    """
    from neurometamer.activations import compute_activations
    from neurometamer.encoding import fit_encoding
    from neurometamer.zoo import load_model
    from stimuli_gen.depth import at_stages

    run = run or RunOptions()
    reading = reading or ReadingOptions()
    check_before_loading([model], weights, images, reading)
    subjects = read_pattern_files(patterns)
    network = load_model(model, weights=weights, device=run.device, seed=seed)
    network, chosen = at_stages(network, list(stages) or list(network.stages))
    stimuli = read_images(images, network.preprocessing, bits=reading.bits, icc=reading.icc)
    activations = compute_activations(
        network,
        stimuli,
        stages=chosen,
        run=replace(run, progress=None),
    )
    table = fit_encoding(
        activations,
        subjects,
        stimuli.table,
        seed=seed,
        progress=run.progress,
        **options,
    )
    table = table.assign(model=network.name, weights=network.weights)
    write_table(out, table)
    return table

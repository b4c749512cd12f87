"""The demo: a study on packaged photographs with a simulated cortex."""

from __future__ import annotations

from pathlib import Path

from neurometamer.arguments import checked
from neurometamer.study.plan import Reporter
from neurometamer.study.steps import demo_settings, run_study


@checked
def run_demo(
    out: str | Path = Path("demo-output"),
    *,
    model: str = "efficientnet_lite0",
    weights: str = "default",
    seed: int = 0,
    device: str = "auto",
    reporter: Reporter | None = None,
) -> Path:
    """Run the demo study on packaged photographs.

    It makes AN and AI images, a simulated cortex, RSA, encoding and a report.

    Parameters
    ----------
    out : path-like
        Output folder.
    model : str
        Name of a network, see ``neurometamer models list``.
    weights : str
        ``"default"`` (ImageNet), ``"random"`` (untrained), or a file.
    seed : int
        Seed of all random numbers.
    device : str
        Where the network runs: auto, cpu, cuda, mps, or one of several, as cuda:1.
    reporter : Reporter, optional
        Reporter that is told about progress.

    Returns
    -------
    Path
        The report.

    Raises
    ------
    InputError
        When the network is unknown, or the folder holds a different study.

    Examples
    --------
    >>> from neurometamer import InputError
    >>> try:
    ...     run_demo(model="alexnett")
    ... except InputError as error:
    ...     print("alexnet" in str(error))
    True
    """
    if weights not in ("default", "random"):
        weights = str(Path(weights).resolve())  # a study may look for files elsewhere
    settings = demo_settings(model=model, weights=weights, seed=seed)
    return run_study(settings, out, device=device, reporter=reporter)

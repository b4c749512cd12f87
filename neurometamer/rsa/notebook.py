"""RDMs as notebooks show them: a table of what they are, and small pictures."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from neurometamer.arguments import checked
from neurometamer.errors import name_ids
from neurometamer.rsa.rdms import check_rdms, representation_name
from neurometamer.summaries import summarize

if TYPE_CHECKING:
    from rsatoolbox.rdm import RDMs

MOST_PICTURES = 6
"""Largest number of RDMs that are drawn."""

WIDTH = 96
"""Width of a picture in pixels of the screen."""


class RDMsView:
    """RDMs with a short text and, in notebooks, a table and pictures.

    Parameters
    ----------
    rdms : rsatoolbox.rdm.RDMs
        RDMs that pass `check_rdms`; kept as they are.

    Examples
    --------
    >>> from neurometamer import compute_rdms
    >>> values = np.array([[1, 2, 3], [1, 2, 3], [3, 2, 1], [1, 3, 2]])
    >>> view = RDMsView(compute_rdms(values, ids=["cat", "dog", "cup", "car"]))
    >>> view.rdms.n_cond
    4
    """

    def __init__(self, rdms: RDMs) -> None:
        self.rdms = rdms

    def __repr__(self) -> str:
        return summarize("RDMs", self._facts().items())

    def _repr_html_(self) -> str:
        from PIL import Image

        squares = self.rdms.get_matrices()
        rows = []
        for name, value in self._facts().items():
            text = name_ids(value) if isinstance(value, list) else str(value)
            rows.append(f"<tr><th>{html.escape(name)}</th><td>{html.escape(text)}</td></tr>")
        figures = []
        for index in range(min(self.rdms.n_rdm, MOST_PICTURES)):
            label = html.escape(representation_name(self.rdms, index))
            off_diagonal = self.rdms.dissimilarities[index]
            low, high = off_diagonal.min(), off_diagonal.max()
            shares = (squares[index] - low) / max(high - low, np.finfo(float).tiny)
            gray = Image.fromarray((255 * np.clip(shares, 0, 1)).astype(np.uint8))
            buffer = io.BytesIO()
            gray.save(buffer, format="PNG")
            data = base64.b64encode(buffer.getvalue()).decode("ascii")
            address = f"data:image/png;base64,{data}"
            picture = (
                f'<img src="{address}" width="{WIDTH}" alt="RDM of {label}" '
                'style="image-rendering: pixelated">'
            )
            figures.append(
                '<figure style="display: inline-block; margin: 4px">'
                f"{picture}<figcaption>{label}</figcaption></figure>"
            )
        note = "<p>Dark: alike; each from its least to its largest dissimilarity.</p>"
        if self.rdms.n_rdm > MOST_PICTURES:
            note = f"<p>The first {MOST_PICTURES} of {self.rdms.n_rdm} RDMs.</p>{note}"
        return f"<table>{''.join(rows)}</table>{''.join(figures)}{note}"

    def _facts(self) -> Mapping[str, Any]:
        """Name what the RDMs are: measure, sizes and labels."""
        facts: dict[str, Any] = {
            "measure": str(self.rdms.dissimilarity_measure),
            "RDMs": self.rdms.n_rdm,
            "conditions": [str(name) for name in self.rdms.pattern_descriptors["condition"]],
        }
        for descriptors in (self.rdms.rdm_descriptors, self.rdms.pattern_descriptors):
            for name, column in descriptors.items():
                if name not in ("index", "condition"):
                    facts[name] = [str(label) for label in dict.fromkeys(column)]
        return facts


@checked
def show_rdms(rdms: RDMs) -> RDMsView:
    """Show RDMs: a table and pictures in notebooks, a line of text elsewhere.

    Parameters
    ----------
    rdms : rsatoolbox.rdm.RDMs
        RDMs with ids in ``pattern_descriptors["condition"]``.

    Returns
    -------
    RDMsView
        Measure, numbers of RDMs and conditions, labels, and pictures of at most six RDMs.

    Raises
    ------
    InputError
        When the RDMs do not pass `check_rdms`.

    Examples
    --------
    >>> from neurometamer import compute_rdms
    >>> values = np.array([[1, 2, 3], [1, 2, 3], [3, 2, 1], [1, 3, 2]])
    >>> show_rdms(compute_rdms(values, ids=["cat", "dog", "cup", "car"]))
    RDMs(measure='1 - Spearman', RDMs=1, conditions=4: cat, dog, cup …, n_units=['3'])
    """
    check_rdms(rdms, "RDMs to show")
    return RDMsView(rdms)

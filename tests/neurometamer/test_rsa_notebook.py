"""RDMs as notebooks show them: text, a table, and pictures."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

import neurometamer as nm
from neurometamer.errors import InputError


def named_rdms(n_rdms):
    random = np.random.default_rng(0)
    return nm.rsa.label_rdms(
        random.random((n_rdms, 10)),
        conditions=["a & b", "b", "c", "d", "e"],
        rdm_descriptors={"subject": [f"S{k}" for k in range(n_rdms)], "roi": ["<V1>"] * n_rdms},
        measure="1 - Pearson",
    )


def test_rdms_are_shown_as_text_and_as_a_table_with_pictures():
    rdms = named_rdms(8)
    view = nm.show_rdms(rdms)
    text = repr(view)
    assert text.startswith("RDMs(measure='1 - Pearson', RDMs=8, conditions=5: a & b")
    assert len(text) <= 400
    page = view._repr_html_()
    assert page.count("<img") == 6
    assert "The first 6 of 8 RDMs" in page
    assert "a &amp; b" in page
    assert "S0 &lt;V1&gt;" in page
    assert "<V1>" not in page
    data = page.partition("base64,")[2].partition('"')[0]
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))
    square = rdms.get_matrices()[0]
    assert picture.shape == (5, 5)
    assert picture.max() == picture[np.unravel_index(square.argmax(), square.shape)] == 255


def test_few_and_constant_rdms_are_shown_and_other_things_are_refused():
    constant = nm.rsa.label_rdms(
        np.ones((1, 6)), conditions=list("abcd"), rdm_descriptors={"name": ["x"]}, measure="test"
    )
    page = nm.show_rdms(constant)._repr_html_()
    assert page.count("<img") == 1
    assert "The first" not in page
    with pytest.raises(InputError, match="show_rdms: rdms must be"):
        nm.show_rdms(np.ones((4, 4)))

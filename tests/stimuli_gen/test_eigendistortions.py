"""Eigendistortions: closed form, another solver, plenoptic, and what is left of them in the files."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from neurometamer.errors import InputError
from neurometamer.run_options import RunOptions
from stimuli_gen import (
    Preprocessing,
    confirm_eigendistortions,
    eigendistortions,
    packaged_photographs,
    stage_model,
    write_pictures,
)
from stimuli_gen.eigendistortions import rayleigh_quotients
from stimuli_gen.jacobians import (
    SOLVERS,
    Products,
    Spectrum,
    by_syevr,
    in_double,
    symmetric_eigen,
)

STD = np.array([0.2, 0.3, 0.25])


def preprocessing(size):
    return Preprocessing(
        size=(size, size),
        resize=size,
        interpolation="bilinear",
        mean=(0.4, 0.5, 0.6),
        std=tuple(STD),
    )


def staged(layers, size, stage, name="net"):
    return stage_model(
        nn.Sequential(*layers),
        stages={"here": stage},
        preprocessing=preprocessing(size),
        name=name,
        weights="random",
        trained=False,
    )


@pytest.fixture(scope="module")
def rectified():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = (
            nn.Conv2d(3, 12, 5, stride=2),
            nn.ReLU(inplace=True),
            nn.Conv2d(12, 12, 3, 2),
            nn.BatchNorm2d(12),
            nn.ReLU(inplace=True),
            nn.Flatten(),
            nn.Linear(12 * 36, 5),
        )
    return staged(layers, 32, "4")


@pytest.fixture(scope="module")
def photographs():
    everyone = packaged_photographs(preprocessing(32))
    return everyone.select(ids=everyone.ids[:3])


def with_spectrum(n_units, values):
    """A linear network on 8 x 8 pixels whose Jacobian has these singular values."""
    random = np.random.default_rng(1)
    left, _ = np.linalg.qr(random.standard_normal((n_units, len(values))))
    right, _ = np.linalg.qr(random.standard_normal((192, len(values))))
    jacobian = left * values @ right.T
    layers = nn.Flatten(), nn.Linear(192, n_units), nn.Linear(n_units, 3)
    with torch.no_grad():
        weights = jacobian * np.repeat(STD, 64)  # before the pixels are divided by std
        layers[1].weight.copy_(torch.from_numpy(weights))
    model = staged(layers, 8, "1")
    model.network.double()
    with torch.no_grad():
        model.network[1].weight.copy_(torch.from_numpy(weights))
    return model, right


def ends_of(model, images, method, n_each=2):
    random = np.random.default_rng(0)
    starts = random.standard_normal((len(images), n_each, *images.shape[1:])).astype(np.float32)
    solve = SOLVERS[method]
    spectrum = Spectrum(n_each=n_each, tolerance=1e-8)
    return solve(model, "here", images, starts, spectrum, 4)


@pytest.mark.parametrize("method", SOLVERS)
@pytest.mark.parametrize(
    ("n_units", "values"),
    [
        (200, np.geomspace(3, 0.5, 192)),  # no null space
        (40, np.geomspace(3, 0.5, 40)),  # fewer units than pixels
        (200, np.geomspace(3, 0.5, 30)),  # units that repeat each other
    ],
)
def test_linear_networks_have_the_closed_form(method, n_units, values):
    model, right = with_spectrum(n_units, values)
    images = np.random.default_rng(2).random((2, 3, 8, 8), dtype=np.float32)
    ends = ends_of(model, images, method)
    vectors = ends.vectors.reshape(2, 2, 2, 192)
    n_null = 192 - len(values)
    for row in range(2):
        np.testing.assert_allclose(ends.values[row, 0], values[:2] ** 2, rtol=1e-6)
        cosines = np.abs(np.sum(vectors[row, 0] * right[:, :2].T, axis=1))
        np.testing.assert_allclose(cosines, 1, atol=1e-6)
        assert np.abs(vectors[row, 1] @ vectors[row, 1].T - np.eye(2)).max() < 1e-8
        if n_null:
            assert ends.values[row, 1].max() < 1e-6 * values[0] ** 2
            assert np.abs(vectors[row, 1] @ right).max() < 1e-3  # they move nothing
        else:
            np.testing.assert_allclose(ends.values[row, 1], values[:-3:-1] ** 2, rtol=1e-6)
            cosines = np.abs(np.sum(vectors[row, 1] * right[:, :-3:-1].T, axis=1))
            np.testing.assert_allclose(cosines, 1, atol=1e-6)
    exact = {"jacobian": n_null, "krylov": max(0, 192 - n_units)}
    assert ends.null_dimension.tolist() == 2 * [exact[method]]
    assert ends.is_exact == (method == "jacobian")
    assert ends.residuals.max() < 1e-6


def test_both_solvers_agree_with_torchs_jacobian(rectified, photographs):
    double = in_double(rectified)
    images = photographs.images

    def respond(image):
        return double.activations(image, ["here"])["here"].flatten()

    found = {method: ends_of(double, images, method, n_each=1) for method in SOLVERS}
    for row, image in enumerate(images):
        point = torch.from_numpy(image[None]).double()
        jacobian = torch.autograd.functional.jacobian(respond, point).flatten(1)
        _, singular, vectors = torch.linalg.svd(jacobian, full_matrices=False)
        largest = float(singular[0]) ** 2
        rank = int((singular > 1e-12 * singular[0]).sum())
        assert found["jacobian"].null_dimension[row] == 3072 - rank
        assert found["krylov"].null_dimension[row] == 3072 - 12 * 36 <= 3072 - rank
        for ends in found.values():
            assert ends.values[row, 0, 0] == pytest.approx(largest, rel=1e-9)
            cosine = ends.vectors[row, 0, 0].ravel() @ vectors[0].numpy()
            assert abs(cosine) == pytest.approx(1, abs=1e-6)
            assert ends.values[row, 1, 0] < 1e-9 * largest


def test_eigendistortions_are_plenoptics(rectified, photographs):
    plenoptic = pytest.importorskip("plenoptic")
    double = in_double(rectified)
    found = {method: ends_of(double, photographs.images, method) for method in SOLVERS}
    n_compared = 0
    for row, image in enumerate(photographs.images):
        point = torch.from_numpy(image[None]).double()
        plenoptic.set_seed(0)
        peer = plenoptic.Eigendistortion(point, double.stage_module("here"))
        peer.synthesize(method="power", max_iter=3000, stop_criterion=1e-10)
        largest, smallest = (part.squeeze().numpy() for part in peer.eigendistortions)
        for ends in found.values():
            values = ends.values[row]
            assert float(peer.eigenvalues[0]) == pytest.approx(values[0, 0], rel=1e-3)
            if values[0, 0] / values[0, 1] >= 1.05:
                assert abs(np.sum(largest * ends.vectors[row, 0, 0])) >= 0.999
                n_compared += 1
            # any vector of the null space is the smallest: only what it moves can be compared
            changes = np.stack([smallest, ends.vectors[row, 1, 0]])
            both = np.concatenate([image[None]] * 2)
            theirs, ours = rayleigh_quotients(double, "here", both, changes)
            assert ours <= theirs + 1e-6 * values[0, 0]
            assert theirs <= 1e-2 * values[0, 0]
    assert n_compared >= 2


@pytest.mark.parametrize("method", SOLVERS)
def test_files_move_the_response_as_the_eigenvalues_say(rectified, photographs, tmp_path, method):
    made = eigendistortions(rectified, photographs, stage="here", n_each=2, method=method)
    names = [name for name in photographs.ids for _ in range(4)]
    assert made.table["reference_id"].tolist() == names
    ends = ["largest1", "largest2", "smallest1", "smallest2"]
    assert list(made.ids[:4]) == [f"{photographs.ids[0]}_{end}" for end in ends]
    folder = write_pictures(made, tmp_path)
    table = confirm_eigendistortions(rectified, made, photographs, folder).table
    assert table["success"].all() and table["confirmed"].all()
    double = in_double(rectified)
    for row, name in enumerate(made.ids):
        reference = photographs.images[photographs.rows_of([table["reference_id"][row]])][0]
        levels = np.asarray(Image.open(folder / "png" / f"{name}.png")).transpose(2, 0, 1)
        change = levels / 255 - np.round(reference * 255) / 255
        point = torch.from_numpy(reference[None]).double()
        step = 1e-5 * torch.from_numpy(change[None])
        responses = [
            double.activations(image, ["here"])["here"].flatten()
            for image in (point + step, point - step)
        ]
        moved = float((responses[0] - responses[1]).norm()) / 2e-5
        expected = (moved / np.linalg.norm(change)) ** 2
        # finite differences meet a kink of a ReLU now and then
        assert table["rayleigh_png"][row] == pytest.approx(expected, rel=0.02, abs=1e-4)
        if table["end"][row] == "largest":
            assert expected >= 0.4 * table["eigenvalue"][row]
        else:
            assert expected <= 0.6 * table["rayleigh_random"][row]
    by_end = table.groupby("end")["rayleigh_png"]
    assert by_end.min()["largest"] > 10 * by_end.max()["smallest"]


@pytest.mark.parametrize("method", SOLVERS)
def test_companions_and_interruptions_change_nothing(rectified, photographs, tmp_path, method):
    options = {"stage": "here", "method": method, "max_products": 60, "tolerance": 1e-3}
    together = eigendistortions(rectified, photographs, **options)
    alone = eigendistortions(rectified, photographs.select(ids=photographs.ids[1:2]), **options)
    np.testing.assert_array_equal(alone.images, together.images[2:4])
    kept = RunOptions(resume=tmp_path)
    first = photographs.select(ids=photographs.ids[:2])
    eigendistortions(rectified, first, **options, run=kept)
    counts = []
    again = RunOptions(resume=tmp_path, progress=lambda done, total: counts.append((done, total)))
    resumed = eigendistortions(rectified, photographs, **options, run=again)
    assert counts == [(6, 6)]  # the last photograph alone was left
    np.testing.assert_array_equal(resumed.images, together.images)
    columns = ["eigenvalue", "residual", "null_dimension", "rayleigh_png", "success"]
    assert resumed.table[columns].equals(together.table[columns])


def test_what_is_not_found_or_lost_in_the_file_is_said(rectified, photographs, tmp_path):
    rough = eigendistortions(
        rectified, photographs, stage="here", method="krylov", max_products=2, tolerance=1e-12
    )
    assert not rough.table["success"].any()
    assert rough.table["why_not"].str.contains("above 1e-12; allow more products").all()
    made = eigendistortions(rectified, photographs, stage="here", strength=1e-5)
    assert not made.table["success"].any()  # less than half a gray level
    assert set(made.table["why_not"]) == {
        "the picture is the photograph itself; make the change stronger"
    }
    made = eigendistortions(rectified, photographs, stage="here")
    folder = write_pictures(made, tmp_path)
    pictures = folder / "png"
    (pictures / f"{made.ids[0]}.png").write_bytes((pictures / f"{made.ids[1]}.png").read_bytes())
    table = confirm_eigendistortions(rectified, made, photographs, folder).table
    assert table["success"].tolist() == [False, True, True, True, True, True]
    assert "below 0.5 of the eigenvalue" in table["why_not"][0]


def test_products_are_those_of_the_jacobian(rectified, photographs):
    double = in_double(rectified)
    assert next(rectified.network.parameters()).dtype == torch.float32  # a copy was made
    images = torch.from_numpy(photographs.images).double()
    products = Products(double, "here", images)
    vectors = torch.randn(3, 3072, generator=torch.Generator().manual_seed(0)).double()
    for row in range(3):
        jacobian = torch.autograd.functional.jacobian(
            lambda image: double.activations(image, ["here"])["here"].flatten(),
            images[row : row + 1],
        ).flatten(1)
        moved = jacobian @ vectors[row]
        torch.testing.assert_close(products.forward(vectors)[row], moved)
        torch.testing.assert_close(products.both(vectors)[row], jacobian.T @ moved)


def test_what_does_not_fit_is_refused(rectified, photographs, tmp_path):
    cases = [
        ({"stage": "hre"}, "unknown stage of net 'hre'; did you mean 'here'"),
        ({"method": "power"}, "unknown method 'power'"),
        ({"n_each": 0}, "n_each must be above 0"),
        ({"n_each": 600}, "n_each is 600, and here of net has 432 units"),
        ({"strength": 0.0}, "strength is 0.0"),
        ({"share": 1.0}, "share is 1.0"),
        ({"n_eac": 2}, "unknown setting of eigendistortions 'n_eac'"),
    ]
    for options, message in cases:
        with pytest.raises(InputError, match=message):
            eigendistortions(rectified, photographs, **{"stage": "here", **options})
    layers = nn.Conv2d(3, 2, 3, stride=4), nn.ReLU(), nn.Flatten(), nn.Linear(128, 2)
    dead = staged(layers, 32, "1")
    with torch.no_grad():
        dead.network[0].weight.zero_()
        dead.network[0].bias.fill_(-1)
    with pytest.raises(InputError, match="does not change with the image at all"):
        eigendistortions(dead, photographs, stage="here")
    made = eigendistortions(rectified, photographs, stage="here")
    folder = write_pictures(made, tmp_path)
    with pytest.raises(InputError, match="were made for net, not this net"):
        confirm_eigendistortions(dead, made, photographs, folder)
    with pytest.raises(InputError, match="no set of eigendistortions"):
        confirm_eigendistortions(rectified, photographs, photographs, folder)


def test_eigenvalues_that_repeat_hundreds_of_times_are_found_whatever_torch_does():
    random = np.random.default_rng(0)
    rows = random.standard_normal((2, 30, 300))
    matrices = np.zeros((2, 260, 260))  # most units are silent, as after a ReLU
    matrices[:, 100:130, 100:130] = rows @ rows.transpose(0, 2, 1)
    expected = np.linalg.eigvalsh(matrices)
    broken = matrices.copy()
    broken[1, 5, 7] = np.nan
    for solve in (symmetric_eigen, by_syevr):
        values, vectors = solve(torch.from_numpy(matrices))
        np.testing.assert_allclose(values, expected, atol=1e-11 * expected.max())
        again = vectors @ torch.diag_embed(values) @ vectors.transpose(1, 2)
        np.testing.assert_allclose(again, matrices, atol=1e-11 * expected.max())
    values, vectors = symmetric_eigen(torch.from_numpy(broken))
    np.testing.assert_allclose(values[0], expected[0], atol=1e-11 * expected.max())
    assert values[1].isnan().all() and vectors[1].isnan().all() and vectors[0].isfinite().all()


class Contrast(nn.Module):
    """The length of the steps from pixel to pixel in each part: it has no gradient where all are 0."""

    def forward(self, maps):
        steps = maps[..., 1:] - maps[..., :-1]
        return nn.functional.avg_pool2d(steps.square(), 8).sqrt()


@pytest.mark.parametrize("method", SOLVERS)
def test_photographs_without_a_gradient_are_named(method, photographs):
    layers = nn.Conv2d(3, 4, 1), Contrast(), nn.Flatten(), nn.Linear(48, 2)
    model = staged(layers, 32, "1")
    images = photographs.images.copy()
    images[1] = 0.5
    with pytest.raises(InputError, match="is not finite at ") as error:
        eigendistortions(model, replace(photographs, images=images), stage="here", method=method)
    assert photographs.ids[1] in str(error.value)

"""One simulated subject for the tests of this package, and a maker of small real files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest

from fmri import Patterns, SimulatedSubject, estimate_betas, read_masks, read_runs, simulate_subject

CONDITIONS = tuple(f"img{number:02d}{kind}" for number in range(18) for kind in ("", "_AN", "_AI"))
MIXING = {
    "V1": {"pixels": 1.0},
    "V2": {"pixels": 0.9, "objects": 0.2},
    "V4": {"pixels": 0.4, "objects": 0.8},
    "LO": {"objects": 1.0},
}


@pytest.fixture(scope="session")
def features() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(5)
    return {"pixels": rng.normal(size=(54, 40)), "objects": rng.normal(size=(54, 12))}


@pytest.fixture(scope="session")
def simulated(tmp_path_factory, features) -> SimulatedSubject:
    return simulate_subject(
        tmp_path_factory.mktemp("brain"),
        subject="sub-01",
        conditions=CONDITIONS,
        features=features,
        mixing=MIXING,
        seed=3,
    )


@pytest.fixture(scope="session")
def simulated_patterns(simulated) -> Patterns:
    runs = read_runs(simulated.bold, simulated.events, simulated.confounds)
    return estimate_betas(runs, read_masks(simulated.masks, simulated.bold[0]))


@pytest.fixture
def make_run(tmp_path) -> Callable[..., tuple[Path, Path, Path]]:
    """Write one small run with its events and a mask; arguments change what is written."""

    def make(
        name="run-1",
        shape=(4, 5, 3),
        n_volumes=60,
        t_r=2.0,
        suffix=".nii",
        affine=None,
        edit=lambda data: data,
        events=None,
    ):
        rng = np.random.default_rng([len(name), *name.encode()])
        data = edit(1000 + 10 * rng.normal(size=(*shape, n_volumes)))
        affine = np.diag([2.0, 2.0, 2.0, 1.0]) if affine is None else affine
        image = nibabel.Nifti1Image(data.astype(np.float32), affine)
        image.header.set_xyzt_units("mm", "sec")
        if data.ndim == 4:
            image.header.set_zooms((2.0, 2.0, 2.0, t_r))
        bold = tmp_path / f"sub-07_{name}_bold{suffix}"
        nibabel.save(image, bold)
        if events is None:
            events = pd.DataFrame(
                {
                    "onset": [6.0, 26.0, 46.0, 66.0, 86.0],
                    "duration": 2.0,
                    "trial_type": ["a", "b", "blank", "a", "c"],
                }
            )
        table = tmp_path / f"sub-07_{name}_events.tsv"
        events.to_csv(table, sep="\t", index=False, na_rep="n/a")
        mask = np.zeros(shape[:3], dtype=np.uint8)
        mask[1:3, 1:4, 1] = 1
        path = tmp_path / f"sub-07_{name}_mask.nii"
        nibabel.save(nibabel.Nifti1Image(mask, affine), path)
        return bold, table, path

    return make

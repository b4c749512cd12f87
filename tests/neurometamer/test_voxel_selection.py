"""Voxels chosen by the RDMs around them, pooled RDMs, and what commands, studies and pages say of
the choice.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import coo_array
from scipy.sparse.csgraph import dijkstra
from scipy.spatial.distance import pdist
from scipy.stats import rankdata, spearmanr

import neurometamer as nm
from fmri import (
    Patterns,
    pool_subjects,
    read_patterns,
    region_ceilings,
    select_voxels,
    write_patterns,
)
from fmri.selection import check_baseline
from neurometamer.cli import app
from neurometamer.errors import InputError
from neurometamer.report.methods import study_works
from neurometamer.report.read_study import CHOSEN
from neurometamer.report.rsa import find_stamps, rdm_stamps, study_of_tables
from neurometamer.report.study import SECTIONS
from neurometamer.rsa import (
    VOXEL_CRITERIA,
    pattern_rdms,
    rdm_reliability,
    read_rdms,
    searchlight_criterion,
)
from neurometamer.store import read_table
from neurometamer.study import brain_steps
from neurometamer.study.plan import Progress, Workspace
from neurometamer.study.settings import StudySettings
from stimuli_gen.stimuli import StimulusSet, write_stimuli

IDS = [f"{kind}{number:02d}" for kind in ("RE", "AN") for number in range(8)]
REGULAR = IDS[:8]


def observations(repeats=2):
    runs = np.repeat(np.arange(repeats) + 1, len(IDS))
    shown = {"condition": IDS * repeats, "presentation": runs, "run": runs, "session": ""}
    return pd.DataFrame(shown)


def volume(subject="S1", seed=0, shape=(6, 6, 3)):
    """One corner of the volume responds."""
    random = np.random.default_rng(seed)
    index = np.argwhere(np.ones(shape, dtype=bool))
    responding = (index < 3).all(axis=1)
    signal = 3 * random.standard_normal((len(IDS), len(index))) * responding
    values = np.tile(signal, (2, 1)) + random.standard_normal((2 * len(IDS), len(index)))
    voxels = pd.DataFrame(index, columns=list("ijk"))
    voxels = voxels.assign(subject=subject, roi=np.where(index[:, 0] < 3, "V1", "LO"))
    grid = {"shape": list(shape), "affine": np.diag([2.0, 2.0, 3.0, 1.0]).tolist()}
    return Patterns(
        values=values,
        observations=observations(),
        voxels=voxels,
        provenance={"grid": grid},
    )


def rdm(responses):
    ranks = rankdata(responses, axis=1)
    return np.round(pdist(ranks, "correlation"), 12)


def direct(values, neighbors):
    """Spearman correlation of the RDMs of both presentations of regular images."""
    halves = values.reshape(2, len(IDS), -1)[:, : len(REGULAR)]
    first, second = (rdm(half[:, neighbors]) for half in halves)
    return spearmanr(first, second).statistic


def test_scores_of_a_volume_are_those_of_spheres_in_millimeters():
    patterns = volume()
    scores = rdm_reliability(patterns, REGULAR, radius_mm=3.0)
    places = patterns.voxels[["i", "j", "k"]].to_numpy() * [2.0, 2.0, 3.0]
    for voxel in (0, 20, 57, 107):
        near = np.linalg.norm(places - places[voxel], axis=1) <= 3.0
        assert scores[voxel] == pytest.approx(direct(patterns.values, near), abs=1e-10)


def test_the_best_disks_of_each_hemisphere_are_kept():
    side = 12
    rows, columns = np.divmod(np.arange(side * side), side)
    points = np.stack([1.4 * columns, 1.5 * rows, np.zeros(side * side)], axis=1)
    corners = np.flatnonzero((rows < side - 1) & (columns < side - 1))
    lower = np.stack([corners, corners + 1, corners + side], axis=1)
    upper = np.stack([corners + 1, corners + side + 1, corners + side], axis=1)
    triangles = np.concatenate([lower, upper])
    meshes = {"L": (points, triangles), "R": (2 * points, triangles)}
    random = np.random.default_rng(1)
    parts = []
    for _ in "LR":
        signal = 3 * random.standard_normal((len(IDS), side * side)) * (columns < 4)
        values = np.tile(signal, (2, 1)) + random.standard_normal((2 * len(IDS), side * side))
        parts.append(values)
    one = pd.DataFrame({"subject": "S1", "roi": "V1", "i": range(side * side), "j": 0, "k": 0})
    voxels = [one.assign(hemisphere=hemisphere) for hemisphere in "LR"]
    patterns = Patterns(
        values=np.concatenate(parts, axis=1),
        observations=observations(),
        voxels=pd.concat(voxels),
    )
    scores = rdm_reliability(patterns, REGULAR, radius_mm=3.0, meshes=meshes)
    edges = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    edges = np.unique(np.sort(edges, axis=1), axis=0)
    lengths = np.linalg.norm(points[edges[:, 0]] - points[edges[:, 1]], axis=1)
    graph = coo_array((lengths, edges.T), shape=(side * side, side * side))
    paths = dijkstra(graph.tocsr(), directed=False)
    for vertex in (0, 65, 143):
        near = paths[vertex] <= 3.0
        assert scores[vertex] == pytest.approx(direct(parts[0], near), abs=1e-10)
    # the right mesh is twice as large: no disk of 3 mm has the vertices for an RDM of diagonals
    assert not np.allclose(scores[: side * side], scores[side * side :], equal_nan=True)
    meshes["R"] = meshes["L"]
    chosen = select_voxels(
        patterns,
        conditions=REGULAR,
        criterion=searchlight_criterion(radius_mm=3.0, meshes=meshes),
        n_per_roi=20,
    )
    assert chosen.voxels.groupby("hemisphere").size().tolist() == [20, 20]
    assert (columns[chosen.voxels["i"]] < 5).mean() > 0.9
    assert "3 mm disks" in chosen.provenance["selection"]["method"]
    with pytest.raises(InputError, match="no mesh of hemisphere 'R'; there is one of 'L'"):
        rdm_reliability(patterns, REGULAR, meshes={"L": meshes["L"]})


def test_neighbors_may_be_of_other_regions():
    everything = volume()
    v1 = everything.select(roi="V1")
    alone = rdm_reliability(v1, REGULAR, radius_mm=3.0)
    around = rdm_reliability(v1, REGULAR, radius_mm=3.0, around=everything)
    whole = rdm_reliability(everything, REGULAR, radius_mm=3.0)
    inside = (everything.voxels["roi"] == "V1").to_numpy()
    np.testing.assert_allclose(around, whole[inside])
    assert not np.allclose(alone, around)
    with pytest.raises(InputError, match=r"not among those around: \(0, 0, 0\)"):
        rdm_reliability(everything, REGULAR, around=everything.select(roi="LO"))
    placeless = Patterns(values=v1.values, observations=v1.observations, voxels=v1.voxels)
    with pytest.raises(InputError, match="no voxel grid"):
        rdm_reliability(placeless, REGULAR)


def stimulus_table():
    kinds = [name[:2] for name in IDS]
    return pd.DataFrame({"id": IDS, "kind": kinds, "reference_id": REGULAR * 2})


def test_one_rdm_over_the_voxels_of_all_subjects():
    subjects = {"S1": volume("S1", 1), "S2": volume("S2", 2)}
    pooled = pattern_rdms(subjects, stimulus_table(), pooled=True)
    assert pooled.rdm_descriptors["subject"] == ["S1+S2", "S1+S2"]
    assert sum(pooled.rdm_descriptors["n_voxels"]) == 2 * 108
    means = []
    for patterns in subjects.values():
        inside = (patterns.voxels["roi"] == "LO").to_numpy()
        means.append(patterns.values.reshape(2, len(IDS), -1).mean(axis=0)[:, inside])
    at = pooled.rdm_descriptors["roi"].index("LO")
    together = rdm(np.concatenate(means, axis=1))
    np.testing.assert_allclose(pooled.dissimilarities[at], together, atol=1e-10)
    crossed = pattern_rdms(
        subjects, stimulus_table(), measure="crossnobis", noise="none", pooled=True
    )
    parts = pattern_rdms(subjects, stimulus_table(), measure="crossnobis", noise="none")
    # squared distances of as many voxels each are averaged
    of_region = parts.dissimilarities.reshape(2, 2, -1).mean(axis=0)
    np.testing.assert_allclose(crossed.dissimilarities, of_region, atol=1e-12)


@pytest.fixture
def files(tmp_path):
    stimulus_table().to_csv(tmp_path / "stimuli.csv", index=False)
    for subject, seed in (("S1", 1), ("S2", 2)):
        write_patterns(volume(subject, seed), tmp_path / f"{subject}.h5")
    return tmp_path


def test_select_keeps_the_best_voxels_by_any_criterion(files):
    stimuli = files / "stimuli.csv"
    with pytest.warns(UserWarning, match="responses to 8 conditions"):
        nm.commands.fmri_select(
            files / "S1.h5", files / "split.h5", n_voxels=5, stimuli=stimuli, zscore="run"
        )
    split = read_patterns(files / "split.h5")
    assert split.voxels["roi"].tolist() == ["V1"] * 5 + ["LO"] * 5
    assert split.provenance["selection"]["image_types"] == ["RE"]
    assert split.provenance["zscore"] == "run"
    words = ["fmri", "select", files / "S1.h5", files / "best.h5", "--criterion", "searchlight"]
    words += ["--radius-mm", 3, "--n-voxels", 6, "--stimuli", stimuli]
    assert app.run([str(word) for word in words]) == 0
    best = read_patterns(files / "best.h5")
    record = best.provenance["selection"]
    assert record["method"].endswith("3 mm spheres") and record["n_per_roi"] == 6
    near = best.voxels[best.voxels["roi"] == "V1"][["j", "k"]]
    assert (near["j"] <= 3).all()
    for wrong, message in (
        ({"criterion": "t", "zscore": "run"}, "no baseline"),
        ({"criterion": "best"}, "criterion for voxels 'best'"),
        ({"meshes": {"L": "lh.pial"}}, "for --criterion searchlight"),
        ({"stimuli": None}, "conditions that judge voxels"),
        ({"n_voxels": 0}, "no criterion for voxels"),
    ):
        options = {"stimuli": stimuli, "n_voxels": 5} | wrong
        with pytest.raises(InputError, match=message):
            nm.commands.fmri_select(files / "S1.h5", files / "x.h5", **options)


def test_pages_say_when_other_images_chose_the_voxels(files):
    stimuli = files / "stimuli.csv"
    for out, names in (("regular", REGULAR), ("all", IDS)):
        nm.commands.fmri_select(
            files / "S1.h5",
            files / f"{out}.h5",
            criterion="ncsnr",
            n_voxels=9,
            stimuli=stimuli,
            select_on=names,
        )
        nm.commands.rdm(files / f"{out}_rdms.h5", patterns=[files / f"{out}.h5"], images=[stimuli])
    for out, stamps in (("regular", []), ("all", [CHOSEN])):
        patterns = read_patterns(files / f"{out}.h5")
        assert find_stamps(dict(patterns.provenance)) == stamps
        path = files / f"{out}_rdms.h5"
        assert rdm_stamps(read_rdms(path), path) == stamps
    write_stimuli(
        StimulusSet(images=np.zeros((16, 3, 8, 8), dtype=np.float32), table=stimulus_table()),
        files / "images",
    )
    page = nm.commands.draw(files / "all_rdms.h5", [files / "images"], files / "page")
    assert CHOSEN[1:] in page.read_text(encoding="utf-8")  # its first letter is a capital there
    both = pool_subjects([read_patterns(files / "all.h5"), volume("S2", 2)])
    assert find_stamps(dict(both.provenance)) == [CHOSEN]


def test_the_command_tells_ceilings_of_each_region_and_image_type(files):
    words = ["fmri", "reliability", files / "S1.h5", files / "S2.h5", "--out", files / "out"]
    assert app.run([str(word) for word in [*words, "--stimuli", files / "stimuli.csv"]]) == 0
    table = read_table(files / "out" / "ceilings.csv")
    assert len(table) == 2 * 2 * 2
    assert table["image_type"].unique().tolist() == ["RE", "AN"]
    v1, lo = (table[table["roi"] == roi] for roi in ("V1", "LO"))
    assert v1["nc"].min() > 25 and lo["nc"].max() < 20
    assert (table[["n_images", "repeats"]].to_numpy() == [8, 2]).all()
    voxels = read_table(files / "out" / "voxels.csv")
    assert len(voxels) == 2 * 108 * 2
    by_hand = 100 * voxels["ncsnr"] ** 2 / (voxels["ncsnr"] ** 2 + 1 / 2)
    np.testing.assert_allclose(voxels["nc"], by_hand)
    patterns = read_patterns(files / "S1.h5")
    once = patterns.observations["presentation"] == 1
    single = Patterns(
        values=patterns.values[once],
        observations=patterns.observations[once],
        voxels=patterns.voxels,
    )
    write_patterns(single, files / "once.h5")
    pooled = ["rdm", "--patterns", files / "S1.h5", files / "S2.h5", "--pooled"]
    assert app.run([str(word) for word in [*pooled, "--out", files / "pooled.h5"]]) == 0
    assert read_rdms(files / "pooled.h5").rdm_descriptors["subject"] == ["S1+S2", "S1+S2"]
    with pytest.raises(InputError, match=r"subject S1: ROI 'V1', image type 'all': .* shown once"):
        nm.commands.fmri_reliability([files / "once.h5"], files / "none")
    few = stimulus_table().iloc[:10]
    few.to_csv(files / "few.csv", index=False)
    with pytest.raises(InputError, match=r"without an image type: AN02.*\(6 in all\)"):
        nm.commands.fmri_reliability([files / "S1.h5"], files / "none", stimuli=files / "few.csv")


@pytest.fixture
def work(tmp_path):
    """A study as it stands before voxels are chosen, to be chosen on AN images."""
    table = stimulus_table().assign(category="x")
    images = np.random.default_rng(0).random((len(IDS), 3, 8, 8), dtype=np.float32)
    write_stimuli(StimulusSet(images=images, table=table), tmp_path / "stimuli")
    write_patterns(volume("sub-01"), tmp_path / ".state" / "betas" / "sub-01.h5")
    subject = {"id": "sub-01", "bold": ["b.nii"], "events": ["e.tsv"], "masks": {"V1": "m.nii"}}
    settings = StudySettings.model_validate(
        {
            "study": {"name": "chosen"},
            "brain": {"source": "bold", "subjects": [subject]},
            "selection": {"image_type": "AN", "criterion": "searchlight", "voxels_per_roi": 6},
        }
    )
    return Workspace(folder=tmp_path, settings=settings, base=tmp_path)


def test_the_steps_of_a_study_choose_voxels_and_tell_ceilings(work):
    progress = Progress(None)
    brain_steps.patterns(work, progress, subject="sub-01")
    chosen = read_patterns(work.path("patterns", "sub-01.h5"))
    assert chosen.provenance["selection"]["not_regular"] == ["AN"]
    direct = select_voxels(
        volume("sub-01"),
        conditions=IDS[8:],
        criterion=searchlight_criterion(radius_mm=3.0),
        n_per_roi=6,
    )
    pd.testing.assert_frame_equal(chosen.voxels, direct.voxels)
    brain_steps.regions(work, progress)
    ceilings = read_table(work.path("tables", "ceilings.csv"))
    assert ceilings[["roi", "image_type"]].to_numpy().tolist() == [
        ["V1", "RE"],
        ["V1", "AN"],
        ["LO", "RE"],
        ["LO", "AN"],
    ]
    expected = region_ceilings(chosen, dict(zip(IDS, stimulus_table()["kind"], strict=True)))
    np.testing.assert_allclose(ceilings["nc"], expected["nc"], rtol=1e-12)


def test_the_page_of_a_study_shows_ceilings_and_says_what_chose_the_voxels(work):
    brain_steps.patterns(work, Progress(None), subject="sub-01")
    brain_steps.regions(work, Progress(None))
    names = ("regions", "ceilings")
    tables = {name: read_table(work.path("tables", f"{name}.csv")) for name in names}
    for kind, words in (
        ("AN", "the criterion 'ncsnr', judged on AN images, not by regular images alone"),
        ("RE", "the criterion 'ncsnr', judged on regular images only"),
    ):
        settings = {"selection": {"image_type": kind, "criterion": "ncsnr"}}
        study = study_of_tables(work.folder, tables, {"settings": settings})
        section = SECTIONS["regions"](study)
        assert any(words in sentence for sentence in section.text)
        assert (CHOSEN in study.brain_stamp) == (kind == "AN")
        page = str(section.grids[1])
        assert "NC, %" in page and (CHOSEN in page) == (kind == "AN")
    assert "allen2022" in study_works(study)


def test_a_study_that_compares_z_scores_with_baseline_is_refused_before_work():
    with pytest.raises(InputError, match="no baseline"):
        check_baseline(VOXEL_CRITERIA["f"], "session")
    with pytest.raises(ValueError, match="criterion"):
        StudySettings.model_validate({"selection": {"criterion": "best"}})

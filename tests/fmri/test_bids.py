"""What lies beside an image: sidecars have authority, sources that disagree are refused, tables are
read as BIDS is.
"""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest

from fmri import BoldRun, estimate_betas, event_design, read_masks, read_run, read_runs
from fmri.bids import file_labels, read_sidecar, sidecar_files
from fmri.surfaces import named_hemisphere
from fmri.tables import read_confounds, read_events
from neurometamer.errors import InputError

EVENTS = pd.DataFrame({"onset": [6.0, 26.0, 46.0], "duration": 2.0, "trial_type": ["a", "b", "c"]})


def write_sidecar(bold, **values):
    bold.with_suffix(".json").write_text(json.dumps(values))


# ----------------------------------------------------------------------------------------- sidecars


def test_the_nearest_sidecar_decides_key_by_key(tmp_path):
    func = tmp_path / "data" / "sub-01" / "ses-2" / "func"
    func.mkdir(parents=True)
    image = func / "sub-01_ses-2_task-x_run-1_desc-preproc_bold.nii.gz"
    files = {
        tmp_path / "task-x_bold.json": {"RepetitionTime": 9.0},  # above the root of the data set
        tmp_path / "data" / "dataset_description.json": {"Name": "x"},
        tmp_path / "data" / "bold.json": {"RepetitionTime": 1.0, "a": 1, "b": 1},
        tmp_path / "data" / "task-x_bold.json": {"RepetitionTime": 2.0, "b": 2},
        tmp_path / "data" / "task-y_bold.json": {"RepetitionTime": 3.0},
        tmp_path / "data" / "task-x_events.json": {"RepetitionTime": 4.0},
        tmp_path / "data" / "sub-01" / "sub-01_ses-3_bold.json": {"RepetitionTime": 5.0},
        func / "sub-01_ses-2_task-x_run-1_desc-preproc_bold.json": {"c": 3},
        func / "sub-01_ses-2_task-x_run-2_bold.json": {"RepetitionTime": 6.0},
    }
    for file, content in files.items():
        file.write_text(json.dumps(content))
    sidecar = read_sidecar(image)
    assert dict(sidecar.values) == {"RepetitionTime": 2.0, "a": 1, "b": 2, "c": 3}
    assert sidecar.where("RepetitionTime") == "RepetitionTime in task-x_bold.json"
    own = "sub-01_ses-2_task-x_run-1_desc-preproc_bold.json"
    assert [file.name for file in sidecar_files(image)] == ["bold.json", "task-x_bold.json", own]
    (tmp_path / "data" / "dataset_description.json").unlink()
    assert (
        read_sidecar(image).values["RepetitionTime"] == 2.0
    )  # the folder of the sub- folders is the root
    assert file_labels(image)["desc"] == "preproc"


def test_a_sidecar_beside_an_image_without_a_bids_name_counts(make_run, tmp_path):
    bold, events, _ = make_run()
    shutil.move(bold, tmp_path / "scan7.nii")
    (tmp_path / "scan7.json").write_text('{"RepetitionTime": 2.0, "StartTime": 0.5}')
    run = read_run(tmp_path / "scan7.nii", events)
    assert run.slices.start_s == 0.5 and [file.name for file in run.sidecars] == ["scan7.json"]


def test_header_and_sidecar_that_disagree_are_refused_until_the_user_decides(make_run):
    bold, events, _ = make_run(t_r=2.2)
    write_sidecar(bold, RepetitionTime=2.0)
    with pytest.raises(
        InputError, match=r"header says .* 2.2 s, but RepetitionTime in .*bold.json says 2 s.*t_r"
    ):
        read_run(bold, events)
    assert read_run(bold, events, t_r=2.0).t_r == 2.0
    assert read_run(bold, events, t_r=2.2).t_r == 2.2
    with pytest.raises(
        InputError, match=r"t_r \(--t-r\) is 1.5 s, but .* 2 s, and the header 2.2 s"
    ):
        read_run(bold, events, t_r=1.5)
    silent, _, _ = make_run("run-2", t_r=0)
    write_sidecar(silent, RepetitionTime=1.25)
    assert read_run(silent, EVENTS).t_r == 1.25
    with pytest.raises(InputError, match=r"is 2 s, but RepetitionTime .* says 1.25 s. Leave"):
        read_run(silent, EVENTS, t_r=2)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"RepetitionTime": 2000}, "RepetitionTime in .* is 2000; BIDS wants seconds"),
        ({"RepetitionTime": "2"}, "RepetitionTime in .* holds '2'; BIDS wants a number"),
        ({"VolumeTiming": [0, 2, 5, *range(7, 121, 2)]}, "VolumeTiming .* not equally spaced"),
        ({"VolumeTiming": [0, 2, 4]}, "VolumeTiming .* lists 3 volumes, but the image has 60"),
        (
            {"VolumeTiming": [10 * volume for volume in range(60)]},
            "the header says a repetition time of 2 s, but VolumeTiming in .* says 10 s",
        ),
        ({"StartTime": 2.4}, "StartTime in .* holds 2.4; times within the repetition time of 2 s"),
        ({"SliceTiming": [0, 500, 1000]}, "SliceTiming in .* holds 500, 1000; times within"),
        ({"SliceTiming": 1}, "SliceTiming in .* is 1; BIDS wants a list"),
        (
            {"SliceTimingCorrected": "false"},
            "SliceTimingCorrected in .* is 'false'; BIDS wants true or false",
        ),
        ({"VolumeTiming": [*range(118, -2, -2)]}, "VolumeTiming in .* is -2; BIDS wants seconds"),
        (
            {"RepetitionTime": 2, "VolumeTiming": [*range(0, 180, 3)]},
            "RepetitionTime in .* says 2 s, but VolumeTiming in .* says 3 s",
        ),
    ],
)
def test_senseless_sidecars_are_refused(make_run, values, message):
    bold, events, _ = make_run()
    write_sidecar(bold, **values)
    with pytest.raises(InputError, match=message):
        read_run(bold, events)


def test_equal_steps_of_volumes_are_the_repetition_time(make_run):
    bold, events, _ = make_run(t_r=0.0)
    write_sidecar(bold, VolumeTiming=[2.5 * volume for volume in range(60)])
    assert read_run(bold, events).t_r == 2.5


def test_two_sidecars_of_one_folder_that_disagree_are_refused(make_run, tmp_path):
    bold, events, _ = make_run("task-x_run-1")
    (tmp_path / "bold.json").write_text('{"StartTime": 0.1, "Manufacturer": "a"}')
    (tmp_path / "sub-07_bold.json").write_text('{"StartTime": 0.2, "Manufacturer": "b"}')
    (tmp_path / "task-x_bold.json").write_text('{"Manufacturer": "c"}')  # not one of the times
    assert read_run(bold, events).slices.start_s == 0.2  # more labels: nearer
    (tmp_path / "task-x_bold.json").write_text('{"StartTime": 0.3}')
    with pytest.raises(
        InputError, match=r"sub-07_bold.json and task-x_bold.json give it a different StartTime"
    ):
        read_run(bold, events)
    (tmp_path / "sub-07_task-x_run-001_bold.json").write_text(
        '{"StartTime": 0.4}'
    )  # run-1: it is a number
    assert read_run(bold, events).slices.start_s == 0.4


def test_a_sidecar_of_other_slices_is_told(make_run):
    bold, events, _ = make_run()  # 3 slices along k, 5 along j
    for direction, n_slices, told in (
        ("k", 3, False),
        ("k-", 4, True),
        ("j", 5, False),
        ("j-", 3, True),
    ):
        write_sidecar(bold, SliceTiming=[0.1] * n_slices, SliceEncodingDirection=direction)
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always")
            read_run(bold, events)
        assert [f"lists {n_slices} slices" in str(warning.message) for warning in heard] == [
            True
        ] * told


def test_slices_that_were_not_corrected_are_told_beside_a_start_time(make_run):
    bold, events, _ = make_run()
    write_sidecar(bold, SliceTiming=[0.0, 0.9, 1.8], StartTime=0.2, SliceTimingCorrected=False)
    run = read_run(bold, events)
    with pytest.warns(
        UserWarning,
        match=r"acquired over 1.8 s .* not corrected; StartTime, 0.2 s, is taken for all",
    ):
        event_design(run)
    assert run.slices.start_s == 0.2


def test_a_repetition_time_that_programs_write_by_default_is_told(make_run):
    bold, _, _ = make_run(t_r=1.0)
    image = nibabel.load(bold)
    image.header.set_xyzt_units("mm", "unknown")
    nibabel.save(
        nibabel.Nifti1Image(np.array(np.asarray(image.dataobj)), image.affine, image.header), bold
    )
    with pytest.warns(
        UserWarning, match="repetition time of 1 without a unit, which programs write where they"
    ):
        assert read_run(bold, EVENTS).t_r == 1
    assert read_run(bold, EVENTS, t_r=1.0).t_r == 1
    write_sidecar(bold, RepetitionTime=1.0)
    assert read_run(bold, EVENTS).t_r == 1


def test_sidecars_that_are_no_objects_are_refused(make_run):
    bold, events, _ = make_run()
    twice = '{"RepetitionTime": 2.2, "RepetitionTime": 2.0}'
    cases = (
        ("[1]", "no JSON object"),
        ("{", "not a JSON file"),
        (twice, "it names RepetitionTime more than once"),
    )
    for content, message in cases:
        bold.with_suffix(".json").write_text(content)
        with pytest.raises(InputError, match=message):
            read_run(bold, events)


def test_volumes_refer_to_the_start_time_of_the_sidecar_as_in_nilearn(make_run, tmp_path):
    """The design is that of nilearn's first_level_from_bids, which takes StartTime /
    RepetitionTime.
    """
    from nilearn.glm.first_level import first_level_from_bids

    bold, _, _ = make_run("task-x_run-1_desc-preproc", suffix=".nii.gz")
    root = tmp_path / "data"
    raw, derived = root / "sub-07" / "func", root / "derivatives" / "sub-07" / "func"
    for folder in (raw, derived):
        folder.mkdir(parents=True)
    (root / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.9.0"}')
    shutil.copy(bold, raw / "sub-07_task-x_run-1_bold.nii.gz")
    image = derived / "sub-07_task-x_run-1_space-T1w_desc-preproc_bold.nii.gz"
    shutil.copy(bold, image)
    facts = {"RepetitionTime": 2.0, "StartTime": 0.9, "SliceTimingCorrected": True}
    for file in (raw / "sub-07_task-x_run-1_bold.json", image.with_suffix("").with_suffix(".json")):
        file.write_text(json.dumps(facts))
    events = raw / "sub-07_task-x_run-1_events.tsv"
    EVENTS.to_csv(events, sep="\t", index=False)
    models, images, tables, _ = first_level_from_bids(
        root,
        "x",
        space_label="T1w",
        derivatives_folder="derivatives",
        img_filters=[("desc", "preproc")],
        drift_model=None,
        noise_model="ols",
        hrf_model="glover",
        mask_img=False,
        slice_time_ref=None,  # from the sidecar; nilearn 0.11 takes 0 by default
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer = models[0].fit(images[0], tables[0]).design_matrices_[0]
    run = read_run(image, events)
    design = event_design(run, high_pass=0)[1].to_numpy()
    np.testing.assert_allclose(design[:, :3], peer[["a", "b", "c"]].to_numpy(), atol=1e-12)
    assert (run.t_r, run.slices.start_s) == (2.0, 0.9)
    with pytest.warns(
        UserWarning, match=r"slice_time_ref = 0 is taken.*StartTime of the sidecars says 0.9 s"
    ):
        other = event_design(run, high_pass=0, slice_time_ref=0.0)[1].to_numpy()
    assert np.abs(design - other).max() > 0.05


def test_uncorrected_slice_times_are_told_and_halved(make_run):
    bold, events, mask = make_run()
    write_sidecar(bold, SliceTiming=[0.0, 0.9, 1.8])
    run = read_run(bold, events)
    with pytest.warns(
        UserWarning,
        match=r"acquired over 1.8 s \(SliceTiming\) and not corrected; the middle, 0.9 s",
    ):
        told = event_design(run)[1]
    np.testing.assert_array_equal(told, event_design(run, slice_time_ref=0.45)[1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        record = estimate_betas([run], {"V1": mask}).provenance["runs"][0]
    assert (record["start_s"], record["sidecars"]) == (0.9, [bold.with_suffix(".json").name])
    write_sidecar(bold, SliceTiming=[0.0, 0.9, 1.8], SliceTimingCorrected=True)
    with pytest.warns(UserWarning, match="corrected, but not to which time"):
        event_design(read_run(bold, events))


def test_the_planted_responses_are_found_through_the_sidecar_alone(
    tmp_path, simulated, simulated_patterns
):
    """A header that says nothing and a sidecar give the betas of a header that tells."""
    for bold in simulated.bold:
        image = nibabel.load(bold)
        copy = nibabel.Nifti1Image(image.get_fdata(dtype=np.float32), image.affine)
        copy.header["descrip"] = image.header["descrip"]
        copy.header.set_zooms((*image.header.get_zooms()[:3], 0.0))
        nibabel.save(copy, tmp_path / bold.name)
    (tmp_path / "bold.json").write_text('{"RepetitionTime": 2.0}')
    (tmp_path / "dataset_description.json").write_text("{}")
    paths = [tmp_path / bold.name for bold in simulated.bold]
    runs = read_runs(paths, simulated.events, simulated.confounds)
    betas = estimate_betas(runs, {"V1": simulated.masks["V1"]})
    expected = simulated_patterns.select(roi="V1").values
    np.testing.assert_allclose(betas.values, expected, rtol=1e-5, atol=1e-5)


# ----------------------------------------------------------------------------------- two transforms


def with_forms(bold, change, codes=(1, 1)):
    image = nibabel.load(bold)
    values = np.array(image.get_fdata(dtype=np.float32))
    changed = nibabel.Nifti1Image(values, image.affine, image.header)
    changed.set_sform(image.affine, codes[0])
    changed.set_qform(change @ image.affine, codes[1])
    nibabel.save(changed, bold)
    return bold


def test_sform_and_qform_that_disagree_are_refused_until_the_user_decides(make_run):
    bold, events, mask = make_run()
    shift = np.eye(4)
    shift[0, 3] = 10
    with_forms(bold, shift)
    with pytest.raises(
        InputError,
        match=r"sform \(code 1, RAS\) and qform \(code 1, RAS\) .* up to 10 mm apart\. Say",
    ):
        read_run(bold, events)
    run = read_run(bold, events, affine="qform")
    with pytest.raises(InputError, match="another affine"):
        estimate_betas([run], {"V1": mask})  # the mask lies where the sform says
    betas = estimate_betas([read_run(bold, events, affine="sform")], {"V1": mask})
    assert np.asarray(betas.provenance["grid"]["affine"])[0, 3] == 0
    mirrored, _, _ = make_run("run-2")
    with_forms(mirrored, np.diag([-1.0, 1, 1, 1]))
    with pytest.raises(InputError, match=r"code 1, LAS.* mm apart; they are mirror images"):
        read_run(mirrored, events)
    for codes in ((1, 0), (0, 1)):
        one = make_run("run-3")[0]
        assert read_run(with_forms(one, shift, codes), EVENTS).n_volumes == 60
    close = np.eye(4)
    close[0, 3] = 0.05
    assert read_run(with_forms(make_run("run-4")[0], close), EVENTS).affine == "agree"
    with pytest.raises(InputError, match="unknown affine 'pixdim'"):
        read_run(bold, events, affine="pixdim")


def test_a_transform_that_is_none_is_refused(make_run):
    bold, _, _ = make_run()
    image = nibabel.load(bold)
    values = np.array(np.asarray(image.dataobj))
    image.header["srow_y"] = 0
    image.header["sform_code"] = 1
    nibabel.save(nibabel.Nifti1Image(values, None, image.header), bold)
    with pytest.raises(
        InputError, match=r"all voxels in one plane, line or point \(sform code 1, qform code 0\)"
    ):
        read_run(bold, EVENTS)


def test_masks_with_two_places_are_refused_too(make_run):
    bold, _, mask = make_run()
    with_forms(mask, np.diag([-1.0, 1, 1, 1]))
    with pytest.raises(InputError, match=r"run-1_mask.nii: sform .* mirror images"):
        read_masks({"V1": mask}, bold)
    assert read_masks({"V1": mask}, bold, affine="sform")["V1"].sum() == 6


# -------------------------------------------------------------------------------------------- masks


SIDES = {
    "L": "lhV1 lh.V1 LH_V1 V1_L L_V1 leftV1 LeftV1 LHV1 V1LH V1L LV1 lhemi_V1 lefthemi",
    "R": "rhV1 V1_rh V1-right hemi-R_V1 V1rh rIPS V1r RV2 RHemisphere",
    "": "V1 LO LO1 rhinal LOC hMT lh_rh V1_r2 RSC Lingual lateral L4 rest FFA r L",
}


def test_a_name_says_its_hemisphere():
    for side, names in SIDES.items():
        for name in names.split():
            assert named_hemisphere(name) == side, name


def test_a_mask_in_the_other_hemisphere_is_told(make_run):
    bold, _, mask = make_run()  # every voxel at x > 0
    with pytest.warns(
        UserWarning, match=r"'lhV1' .* is called left, but 6 of its 6 voxels lie at x > 0 mm"
    ):
        read_masks({"lhV1": mask}, bold)
    right = mask.with_name("rh.V1.nii")
    shutil.copy(mask, right)
    assert read_masks({"V1": right}, bold)["V1"].sum() == 6
    left = mask.with_name("lh.V1.nii")
    shutil.copy(mask, left)
    with pytest.warns(UserWarning, match=r"'V1' \(lh.V1.nii\) is called left"):
        read_masks({"V1": left}, bold)
    with pytest.warns(
        UserWarning, match=r"'rhV1' and its file lh.V1.nii name different hemispheres"
    ):
        read_masks({"rhV1": left}, bold)


def test_masks_that_share_voxels_are_told(make_run, tmp_path):
    bold, _, mask = make_run()
    with pytest.warns(UserWarning, match="'V1' and 'V2' are the same 6 voxels"):
        read_masks({"V1": mask, "V2": mask}, bold)
    larger = np.zeros((4, 5, 3), dtype=np.uint8)
    larger[2:, 1:4, 1] = 1
    nibabel.save(nibabel.Nifti1Image(larger, nibabel.load(mask).affine), tmp_path / "v3.nii")
    with pytest.warns(UserWarning, match=r"'V1' and 'V3' share 3 voxels \(of 6 and 6\)"):
        estimate_betas([read_run(bold, EVENTS)], {"V1": mask, "V3": tmp_path / "v3.nii"})


def test_a_mask_of_another_subject_is_told(make_run):
    bold, _, mask = make_run()
    other = mask.with_name("sub-08_V1.nii")
    shutil.copy(mask, other)
    with pytest.warns(
        UserWarning, match="sub-08_V1.nii names sub-08, but the images are of sub-07"
    ):
        read_masks({"V1": other}, bold)


@pytest.mark.parametrize(
    ("dtype", "top", "slope"),
    [
        (np.uint8, 255, 1),
        (np.uint8, 255, np.float32(1 / 255)),
        (np.int16, 1, 1.00000006),
        (np.float32, 1.0001, 1),
    ],
)
def test_masks_as_other_programs_write_them_are_binary(make_run, dtype, top, slope):
    bold, _, mask = make_run()
    image = nibabel.load(mask)
    values = np.array(image.get_fdata()) * top
    scaled = nibabel.Nifti1Image(values.astype(dtype), image.affine)
    scaled.header.set_slope_inter(slope, 0)
    nibabel.save(scaled, mask)
    assert read_masks({"V1": mask}, bold)["V1"].sum() == 6


@pytest.mark.parametrize(
    "values", [(0, 1, 2), (0, 0.5, 0.5), (-1, 0, 1), (0, 1, np.nan), (0, 254, 255)]
)
def test_labels_and_probabilities_are_no_masks(make_run, tmp_path, values):
    bold, _, mask = make_run()
    array = np.tile(np.array(values, dtype=np.float32), (4, 5, 1))
    nibabel.save(nibabel.Nifti1Image(array, nibabel.load(mask).affine), tmp_path / "m.nii")
    with pytest.raises(InputError, match="not a binary mask"):
        read_masks({"V1": tmp_path / "m.nii"}, bold)


# ------------------------------------------------------------------------------------------- tables


def test_quotes_are_characters_unless_they_enclose_a_cell(tmp_path):
    path = tmp_path / "events.tsv"
    path.write_text(
        'onset\tduration\ttrial_type\tnote\n1\t2\t"cat"\t"late\n3\t2\t"a ""b"""\t\n5\t2\tcup\t5"\n'
    )
    table = read_events(path)
    assert table["trial_type"].tolist() == ["cat", 'a "b"', "cup"]
    assert table["note"].iloc[[0, 2]].tolist() == ['"late', '5"']
    commas = tmp_path / "events.csv"
    commas.write_text('onset,duration,trial_type,note\n1,2,cat,"late\n3,2,cup,"\n5,2,cat,x\n')
    with pytest.raises(InputError, match="row 1 of 'note' runs over several lines"):
        read_events(commas)


def test_the_same_image_is_not_two_runs(make_run, tmp_path):
    bold, events, mask = make_run("x")
    links = tmp_path / "links"
    links.mkdir()
    link = links / "scan.nii"
    link.symlink_to(bold)
    for again in (bold, link):
        with pytest.raises(
            InputError, match=r"BOLD files given more than once: sub-07_x_bold\.nii"
        ):
            read_runs([bold, again], [EVENTS, EVENTS], subject="07")
    copied = shutil.copy(bold, links / "copy.nii")
    runs = read_runs([bold, copied], [EVENTS, EVENTS], subject="07")
    with pytest.raises(InputError, match=r"the same contents: sub-07_x_bold\.nii, copy\.nii"):
        estimate_betas(runs, {"V1": mask})
    for name in ("run-1", "run-01"):
        shutil.copy(bold, tmp_path / f"sub-07_{name}_bold.nii")
    with pytest.raises(InputError, match="runs given twice: session '' run '1'"):
        read_runs(
            [tmp_path / f"sub-07_{name}_bold.nii" for name in ("run-1", "run-01")], [events, EVENTS]
        )


@pytest.mark.parametrize("suffix", [".tsv", ".csv"])
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("onset,duration,trial_type,onset\n6,2,a,7\n", "more than one column called onset"),
        ("onset,duration,trial_type, onset\n6,2,a,7\n", "more than one column called onset"),
        (
            "onset,duration,trial_type\n6,2,a\n26,2,b\n46,2",
            r"line 4 has 2 cell\(s\), the header 3.* \(1 such line",
        ),
        (
            'onset,duration,trial_type\n6,2,"a"\n26,2\n\n46\n',
            r"line 3 has 2 cell\(s\), .* \(2 such line",
        ),
    ],
)
def test_events_that_pandas_would_guess_at_are_refused(tmp_path, suffix, text, message):
    file = tmp_path / f"events{suffix}"
    file.write_text(text.replace(",", "\t") if suffix == ".tsv" else text)
    with pytest.raises(InputError, match=message):
        read_events(file)


def test_events_are_named_without_the_spaces_around_a_name(tmp_path, make_run):
    file = tmp_path / "events.tsv"
    file.write_bytes(
        "\ufeffonset\tduration\ttrial_type\r\n6\t2\tcat \r\n\r\n26\t2\t cat\r\n".encode()
    )
    assert read_events(file)["trial_type"].tolist() == ["cat", "cat"]
    truth = pd.DataFrame({"onset": [True], "duration": 2.0, "trial_type": "a"})
    with pytest.raises(InputError, match=r"'onset' is not a number in row 1 \(True\)"):
        read_run(make_run()[0], truth)


def test_row_numbers_are_no_confound(tmp_path):
    table = pd.DataFrame({"a": [1.0, 2, 3], "b": [0.0, 1, 0]})
    table.to_csv(tmp_path / "confounds.csv")
    with pytest.raises(InputError, match=r"column\(s\) 1 have no name"):
        read_confounds(tmp_path / "confounds.csv", None, "run")
    assert list(read_confounds(tmp_path / "confounds.csv", ["b"], "run")) == ["b"]
    (tmp_path / "twice.tsv").write_text("a\ta\n1\t2\n")
    with pytest.raises(
        InputError, match=r"twice\.tsv has more than one column called a; give each its own name"
    ):
        read_confounds(tmp_path / "twice.tsv", None, "run")


def test_rows_longer_than_the_header_are_refused(tmp_path):
    path = tmp_path / "events.tsv"
    path.write_text("onset\tduration\ttrial_type\n1\t2\tcat\tx\n3\t2\tcup\ty\n")
    with pytest.raises(InputError, match="rows with more cells than its header"):
        read_events(path)


def test_tables_of_another_task_or_subject_are_refused(make_run):
    bold, events, _ = make_run("task-objects_run-01")
    for name, message in {
        "sub-07_task-faces_run-1_events.tsv": "task-faces is not task-objects",
        "sub-7_task-objects_run-1_events.tsv": "sub-7 is not sub-07",
        "sub-07_task-objects_run-2_events.tsv": "run-2 is not run-01",
    }.items():
        shutil.copy(events, events.with_name(name))
        with pytest.raises(InputError, match=message):
            read_run(bold, events.with_name(name))
    same = events.with_name("sub-07_task-objects_run-1_events.tsv")
    shutil.copy(events, same)
    assert read_run(bold, same).run == "01"


def test_confounds_without_a_header_are_refused_by_their_numbers(make_run, tmp_path):
    bold, events, _ = make_run()
    rows = np.random.default_rng(0).normal(size=(61, 3))
    for name, separator in {"mc.tsv": "\t", "rp.txt": "  "}.items():
        np.savetxt(tmp_path / name, rows, delimiter=separator)
        with pytest.raises(InputError, match=rf"{name} has no header: its first row holds numbers"):
            read_run(bold, events, tmp_path / name)
    zeros = tmp_path / "zeros.csv"
    zeros.write_text("0.0,0.0,0.0\n" + "1.0,2.0,3.0\n" * 60)
    with pytest.raises(InputError, match="no header"):
        read_run(bold, events, zeros)
    pd.DataFrame(rows[1:]).to_csv(tmp_path / "numbered.csv", index=False)  # named 0, 1, 2
    assert list(read_confounds(tmp_path / "numbered.csv", None, "x")) == ["0", "1", "2"]


def test_stimuli_are_named_by_another_column(make_run, tmp_path):
    path = tmp_path / "events.tsv"
    path.write_text(
        "onset\tduration\ttrial_type\tstim_file\tImgName\tnumber\n"
        "2\t1\tstim\timages/cat.png\tcat.jpg\t7\n8\t1\tblank\tn/a\tn/a\tn/a\n"
        "14\t1\tstim\timages\\cup.v2.png\tdog\t12\n"
    )
    assert read_events(path, "stim_file")["trial_type"].tolist() == ["cat", "n/a", "cup.v2"]
    assert read_events(path, "ImgName")["trial_type"].tolist() == ["cat", "n/a", "dog"]
    assert read_events(path, "number")["trial_type"].tolist() == ["7", "n/a", "12"]
    assert (
        read_run(make_run()[0], path, condition_column="stim_file").events["trial_type"].tolist()[0]
        == "cat"
    )
    with pytest.raises(InputError, match=r"lacks the column\(s\) stimulus; .*condition_column"):
        read_events(path, "stimulus")
    path.write_text("onset,duration,trial_type\n2,1,cat\n")
    with pytest.raises(InputError, match=r"Tables of BIDS have tabs .* or as \.csv"):
        read_events(path)
    odd = pd.DataFrame({"onset": [2.0], "duration": 1.0, "trial_type": "c\0at"})
    with pytest.raises(InputError, match=r"'c\\x00at' is no id"):
        read_events(odd)
    path.write_text("onset\tduration\tstim_file\n2\t1\ta/cat.png\n8\t1\tb/cat.png\n")
    with pytest.raises(
        InputError, match=r"'a/cat.png' and 'b/cat.png' would both be the stimulus 'cat'"
    ):
        read_events(path, "stim_file")


def test_events_may_begin_before_the_first_volume(make_run):
    """Cutting volumes off and shifting the onsets leaves the regressors of the volumes that stay."""
    events = pd.DataFrame(
        {"onset": [4.0, 14.0, 40.0, 60.0], "duration": 2.0, "trial_type": list("abcd")}
    )
    whole = event_design(
        BoldRun(image=Path("x.nii"), n_volumes=60, t_r=2.0, events=events), high_pass=0
    )[1]
    later = events.assign(onset=events["onset"] - 10)
    kept, cut = event_design(
        BoldRun(image=Path("x.nii"), n_volumes=55, t_r=2.0, events=later), high_pass=0
    )
    assert kept["trial_type"].tolist() == list("abcd")
    np.testing.assert_allclose(cut.to_numpy()[:, :4], whole.to_numpy()[5:, :4], atol=2e-3)
    early = events.assign(onset=events["onset"] - [50, 10, 10, 10])
    with pytest.warns(
        UserWarning, match="response was over before the first volume: 'a' at -46 s; they"
    ):
        kept, _ = event_design(
            BoldRun(image=Path("x.nii"), n_volumes=55, t_r=2.0, events=early), high_pass=0
        )
    assert kept["trial_type"].tolist() == list("bcd")


def test_missing_onsets_and_durations_are_told(make_run):
    bold, _, _ = make_run()
    run = read_run(bold, EVENTS.assign(onset=[6.0, np.nan, 46.0]))
    with pytest.warns(UserWarning, match=r"without an onset \(n/a\) are left out: b"):
        kept, _ = event_design(run)
    assert kept["trial_type"].tolist() == ["a", "c"]
    with pytest.warns(
        UserWarning, match=r"no event has a duration .* percent .* no meaning. .*raw"
    ):
        kept, design = event_design(read_run(bold, EVENTS.assign(duration=np.nan)))
    with pytest.warns(UserWarning, match="taken as impulses"):
        zero = event_design(read_run(bold, EVENTS.assign(duration=0.0)))[1]
    np.testing.assert_array_equal(design, zero)
    mixed = read_run(bold, EVENTS.assign(duration=[2.0, np.nan, 2.0]))
    with pytest.raises(InputError, match=r"others none \(n/a, or less than 0.04 s\): 'b' at 26 s"):
        event_design(mixed)
    assert len(event_design(mixed, ignore=["b"])[0]) == 2


def test_surfaces_folders_and_missing_folders_get_advice_of_their_own(tmp_path):
    array = nibabel.gifti.GiftiDataArray(np.zeros(30, dtype=np.float32))
    nibabel.save(nibabel.GiftiImage(darrays=[array] * 4), tmp_path / "hemi-L_bold.func.gii")
    with pytest.raises(InputError, match=r"the right one \(hemi-R_bold.func.gii\) is not beside"):
        read_run(tmp_path / "hemi-L_bold.func.gii", EVENTS)
    with pytest.raises(
        InputError, match=r"is a folder; give the NIfTI files themselves \(it holds no .nii"
    ):
        read_run(tmp_path, EVENTS)
    with pytest.raises(InputError, match=r"x.nii does not exist \(there is no folder .*func\)"):
        read_run(tmp_path / "func" / "x.nii", EVENTS)

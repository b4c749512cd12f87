"""Runs and masks: read exactly, and refused with a cure when they cannot be used."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import importlib
import shutil

import nibabel
import numpy as np
import pandas as pd
import pytest

from fmri import estimate_betas, extraction, read_masks, read_run, read_runs, read_voxels
from fmri.tables import MOTION_COLUMNS
from fmri.volumes import check_complete, image_files
from neurometamer.errors import InputError

ZSTD = None
for name in ("compression.zstd", "backports.zstd"):  # of newer Python, and what nibabel asks for
    with contextlib.suppress(ImportError):
        ZSTD = importlib.import_module(name)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("dtype", [np.float32, np.int16])
def test_voxels_are_those_of_nilearn(tmp_path, suffix, dtype, monkeypatch):
    from nilearn.maskers import NiftiMasker

    rng = np.random.default_rng(0)
    image = nibabel.Nifti1Image(
        (1000 + 30 * rng.normal(size=(6, 5, 4, 23))).astype(np.float32), np.diag([2, 2, 2, 1.0])
    )
    image.header.set_data_dtype(dtype)  # int16 is written with scl_slope and scl_inter
    path = tmp_path / f"run{suffix}"
    nibabel.save(image, path)
    mask = rng.random((6, 5, 4)) > 0.6
    # several slabs, the last one shorter
    monkeypatch.setattr(extraction, "_SLAB_BYTES", 50 * dtype().itemsize)
    masker = NiftiMasker(nibabel.Nifti1Image(mask.astype(np.uint8), image.affine), standardize=None)
    peer = masker.fit_transform(nibabel.load(path))
    np.testing.assert_array_equal(read_voxels(path, mask).astype(peer.dtype), peer)


def test_run_takes_labels_from_the_file_name_and_repetition_time_from_the_header(make_run):
    bold, events, _ = make_run("ses-2_run-03", t_r=1.5)
    run = read_run(bold, events)
    assert (run.subject, run.session, run.run, run.t_r, run.n_volumes) == (
        "07",
        "2",
        "03",
        1.5,
        60,
    )
    with pytest.warns(UserWarning, match=r"t_r = 2 s is taken .* the headers say 1.5 s"):
        assert read_run(bold, events, run="1", session="x", subject="y", t_r=2).key == ("x", "1")


def test_missing_trial_types_are_named(make_run):
    events = pd.DataFrame({"onset": [2.0, 8.0], "duration": 1.0, "trial_type": ["007", None]})
    assert list(read_run(*make_run(events=events)[:2]).events["trial_type"]) == ["007", "n/a"]


def test_of_names_only_empty_cells_and_that_of_bids_are_missing(make_run):
    bold, table, _ = make_run()
    names = ["nan", "NaN", "NA", "None", "null", "n/a", ""]
    rows = [f"{4 + 10 * number}\t1\t{name}\n" for number, name in enumerate(names)]
    table.write_text("onset\tduration\ttrial_type\n" + "".join(rows))
    assert list(read_run(bold, table).events["trial_type"]) == [*names[:6], "n/a"]


def test_confounds_are_motion_by_default_and_first_gaps_are_filled(make_run):
    bold, events, _ = make_run()
    table = pd.DataFrame(np.random.default_rng(0).normal(size=(60, 8)))
    table.columns = [*MOTION_COLUMNS, "trans_x_derivative1", "csf"]
    table.loc[0, "trans_x_derivative1"] = np.nan
    assert list(read_run(bold, events, table).confounds) == list(MOTION_COLUMNS)
    filled = read_run(bold, events, table, columns=["trans_x_derivative1"]).confounds[
        "trans_x_derivative1"
    ]
    assert filled[0] == filled[1] == table["trans_x_derivative1"][1]
    table.loc[7, "csf"] = np.nan
    with pytest.raises(InputError, match="after the first row: csf"):
        read_run(bold, events, table, columns=["csf"])
    with pytest.raises(InputError, match=r"lack the column.*fd.*they have trans_x"):
        read_run(bold, events, table, columns=["fd"])
    with pytest.raises(InputError, match="59 rows but the image has 60 volumes"):
        read_run(bold, events, table[1:])
    with pytest.raises(InputError, match=r"confound\(s\) given more than once: trans_x"):
        read_run(bold, events, table, columns=["trans_x", "trans_x"])


EVENTS = pd.DataFrame({"onset": [2.0, 8.0], "duration": 1.0, "trial_type": ["a", "b"]})


@pytest.mark.parametrize(
    ("events", "message"),
    [
        (EVENTS.drop(columns="duration"), "lacks the column.* duration"),
        (EVENTS[:0], "no rows"),
        (EVENTS.assign(onset=["2", "soon"]), r"'onset' is not a number in row 2 \(soon\)"),
        (
            EVENTS.assign(duration=["2", "long"]),
            r"'duration' is not a number in row 2 \(long\); give seconds, or n/a",
        ),
        (EVENTS.assign(duration=[1.0, -1]), "negative duration: 'b' at 8 s"),
        (
            EVENTS.assign(onset=[1.0, 120]),
            r"end \(60 volumes × 2 s = 120 s\): 'b' at 120 s \(ends at 121 s\)",
        ),
        (EVENTS.assign(duration=[1.0, 200]), "beyond the run's end .* 'b' at 8 s .ends at 208 s"),
    ],
)
def test_bad_events_are_refused(make_run, events, message):
    with pytest.raises(InputError, match=message):
        read_run(*make_run(events=events)[:2])


def test_bad_images_are_refused(make_run, tmp_path):
    bold, events, mask = make_run()
    for name, contents in {
        "empty.nii": b"",
        "text.nii": b"no image",
        "header.nii.gz": bold.read_bytes()[:100],
    }.items():
        path = tmp_path / name
        path.write_bytes(contents)
        with pytest.raises(InputError, match=f"{name} is (empty|not a readable NIfTI)"):
            read_run(path, events)
    with pytest.raises(InputError, match=r"no.nii does not exist"):
        read_run(tmp_path / "no.nii", events)
    with pytest.raises(InputError, match=r"3-D with shape .* must be 4-D"):
        read_run(mask, events)
    no_time = make_run("run-9", t_r=0)
    with pytest.raises(
        InputError, match=r"neither the header nor a JSON sidecar .*; give t_r \(--t-r\)"
    ):
        read_run(*no_time[:2])
    assert read_run(*no_time[:2], t_r=2).t_r == 2


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_image_cut_off_in_the_middle_is_refused(make_run, suffix):
    bold, events, _ = make_run(suffix=suffix)
    bold.write_bytes(bold.read_bytes()[: bold.stat().st_size // 2])
    run = read_run(bold, events)
    with pytest.raises(InputError, match="cut off or damaged"):
        read_voxels(run.image, np.ones((4, 5, 3), dtype=bool))


def test_a_damaged_compressed_image_is_noticed(make_run):
    """A flipped bit often still decompresses; only the checksum at the end of the file tells."""
    bold, events, mask = make_run(suffix=".nii.gz")
    contents = bytearray(bold.read_bytes())
    contents[-6] ^= 1  # the checksum itself: everything before it can be read
    bold.write_bytes(bytes(contents))
    with pytest.raises(InputError, match=r"is cut off or damaged \(CRC check failed"):
        read_voxels(read_run(bold, events).image, read_masks({"V1": mask}, mask)["V1"])
    packed = mask.with_suffix(".nii.gz")
    values = np.random.default_rng(0).integers(0, 2, (20, 20, 20), dtype=np.uint8)
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), packed)
    assert read_masks({"V1": packed}, packed)["V1"].sum() == values.sum()
    contents = bytearray(packed.read_bytes())
    contents[-6] ^= 1
    packed.write_bytes(bytes(contents))
    with pytest.raises(InputError, match=r"mask.nii.gz is cut off or damaged \(CRC"):
        read_masks({"V1": packed}, packed)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda data: nibabel.MGHImage(data.astype(np.float32), np.eye(4)),
            r"x.mgz has the shape \(2, 2, 2, 9\): a volume, not values of vertices; convert",
        ),
        (
            lambda data: nibabel.Nifti1Image(data.astype(np.complex64), np.eye(4)),
            "complex64, not real numbers",
        ),
    ],
)
def test_other_kinds_of_images_are_refused(tmp_path, make, message):
    image = make(np.ones((2, 2, 2, 9)))
    path = tmp_path / ("x.mgz" if isinstance(image, nibabel.MGHImage) else "x.nii")
    nibabel.save(image, path)
    with pytest.raises(InputError, match=message):
        read_run(path, EVENTS, t_r=2)


def test_tables_of_another_run_are_refused(make_run):
    one, two = make_run("ses-a_run-1"), make_run("ses-a_run-2")
    with pytest.raises(
        InputError,
        match=r"run-2_events.tsv was given for .*run-1_bold.nii: run-2 is not run-1. .* same order",
    ):
        read_runs([one[0], two[0]], [two[1], one[1]])
    padded = two[1].with_name(two[1].name.replace("run-2", "run-02"))
    two[1].rename(padded)
    assert read_run(two[0], padded).run == "2"


def test_runs_must_fit_together(make_run):
    one, two = make_run("run-1"), make_run("run-2")
    assert [run.run for run in read_runs([one[0], two[0]], [one[1], two[1]])] == ["1", "2"]
    assert [
        run.run for run in read_runs([make_run("x")[0], make_run("y")[0]], [one[1], two[1]])
    ] == ["1", "2"]
    with pytest.raises(InputError, match=r"2 BOLD image\(s\) but 1 events"):
        read_runs([one[0], two[0]], [one[1]])
    with pytest.raises(InputError, match="runs given twice: session '' run '1'"):
        read_runs([one[0], one[0]], [one[1], one[1]])
    other = make_run("run-3", shape=(4, 5, 4))
    with pytest.raises(
        InputError, match=r"has the grid \(4, 5, 4\) but .* has \(4, 5, 3\), with .*; resample"
    ):
        read_runs([one[0], other[0]], [one[1], other[1]])
    moved = make_run("run-4", affine=np.diag([2.0, 2.0, 2.5, 1.0]))
    with pytest.raises(InputError, match=r"another affine \(largest difference 0.5\)"):
        read_runs([one[0], moved[0]], [one[1], moved[1]])


def test_runs_of_several_subjects_are_refused_whatever_they_are_called(make_run):
    one, two = make_run("run-1"), make_run("run-2")
    other = two[0].rename(two[0].with_name("sub-08_run-2_bold.nii"))
    table = two[1].rename(two[1].with_name("sub-08_run-2_events.tsv"))
    with pytest.raises(
        InputError, match=r"BOLD images of 2 subjects \(sub-07, sub-08\); give those of one"
    ):
        read_runs([one[0], other], [one[1], table], subject="anna")


def test_masks_are_checked_and_never_resampled(make_run, tmp_path):
    bold, _, mask = make_run()
    assert read_masks({"V1": mask}, bold)["V1"].sum() == 6
    affine = nibabel.load(mask).affine

    def save(values, affine=affine):
        nibabel.save(nibabel.Nifti1Image(values, affine), tmp_path / "m.nii")
        return {"V2": tmp_path / "m.nii"}

    zeros = np.zeros((4, 5, 3), dtype=np.float32)
    with pytest.raises(InputError, match="without any voxel: V2"):
        read_masks(save(zeros), bold)
    with pytest.raises(InputError, match=r"'V2': m.nii is not a binary mask; it holds 0.0, 0.5"):
        read_masks(save(np.where(np.arange(3) > 1, 0.5, zeros).astype(np.float32)), bold)
    with pytest.raises(InputError, match="not a binary mask"):
        read_masks(save(np.full_like(zeros, np.nan)), bold)
    with pytest.raises(InputError, match=r"m.nii has the grid \(4, 5, 2\)"):
        read_masks(save(zeros[..., :2]), bold)
    with pytest.raises(InputError, match="another affine"):
        read_masks(save(zeros + 1, np.diag([2, 2, 2.1, 1])), bold)
    with pytest.raises(InputError, match="no ROI masks"):
        read_masks({}, bold)


@pytest.mark.data
def test_layout_without_contents_says_so(shared_data):
    func = shared_data / "bids_ds105_layout" / "sub-1" / "func"
    stem = "sub-1_task-objectviewing_run-01"
    with pytest.raises(InputError, match=r"run-01_bold.nii.gz is empty \(0 bytes\); fetch"):
        read_run(func / f"{stem}_bold.nii.gz", func / f"{stem}_events.tsv")


def test_pairs_of_header_and_values_are_told_apart_by_both(make_run, tmp_path):
    runs = []
    for number, level in enumerate((0, 5), start=1):
        bold, events, mask = make_run(f"run-{number}", edit=lambda data, level=level: data + level)
        image = nibabel.load(bold)
        pair = tmp_path / "pairs" / f"sub-07_run-{number}_bold.hdr"
        pair.parent.mkdir(exist_ok=True)
        nibabel.save(
            nibabel.Nifti1Pair(image.get_fdata(dtype=np.float32), image.affine, image.header), pair
        )
        runs.append((pair, events, mask))
    headers, events, masks = zip(*runs)
    assert headers[0].read_bytes() == headers[1].read_bytes()
    values = {}
    for name, files in (
        ("headers", headers),
        ("values", [file.with_suffix(".img") for file in headers]),
    ):
        patterns = estimate_betas(read_runs(files, events), {"V1": masks[0]})
        values[name] = [entry["image_digest"] for entry in patterns.provenance["runs"]]
    assert values["headers"] == values["values"] and len(set(values["headers"])) == 2
    assert image_files(headers[0]) == [headers[0], headers[0].with_suffix(".img")]
    shutil.copy(headers[0].with_suffix(".img"), headers[1].with_suffix(".img"))
    with pytest.raises(InputError, match="BOLD files with the same contents"):
        estimate_betas(read_runs(headers, events), {"V1": masks[0]})


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".img"])
def test_a_file_that_is_cut_off_is_told_by_its_length(make_run, tmp_path, suffix):
    bold, events, _ = make_run()
    file = tmp_path / f"cut{suffix}"
    image = nibabel.load(bold)
    kind = nibabel.Nifti1Pair if suffix == ".img" else nibabel.Nifti1Image
    nibabel.save(kind(image.get_fdata(dtype=np.float32), image.affine, image.header), file)
    check_complete(file)
    contents = file.read_bytes()
    file.write_bytes(contents[: len(contents) * 3 // 4])
    with pytest.raises(InputError, match=r"cut\..* is cut off"):
        check_complete(file)
    with pytest.raises(InputError, match=r"cut\..* is cut off"):
        read_runs([bold, file], [events, events], subject="07")


def test_files_of_other_packers_are_told_to_be_cut_off(make_run, tmp_path):
    bold, events, _ = make_run()
    contents = bold.read_bytes()
    packers = {".bz2": bz2.compress}
    if ZSTD is not None:
        packers[".zst"] = ZSTD.compress
    mask = np.ones((4, 5, 3), dtype=bool)
    expected = read_voxels(bold, mask)
    for ending, pack in packers.items():
        file = tmp_path / f"packed.nii{ending}"
        packed = pack(contents)
        file.write_bytes(packed)
        check_complete(file)
        np.testing.assert_array_equal(read_voxels(file, mask), expected)
        for kept in (5, 100, len(packed) // 2, len(packed) - 1):
            file.write_bytes(packed[:kept])
            for read in (check_complete, lambda path: read_voxels(path, mask)):
                with pytest.raises(InputError, match=rf"packed.nii{ending} is cut off or damaged"):
                    read(file)
            with pytest.raises(InputError, match=rf"packed.nii{ending} is cut off or damaged"):
                read_runs([bold, file], [events, events], subject="07")
        file.write_bytes(pack(contents[:9000]))  # packed well, of a file that was cut before
        with pytest.raises(InputError, match=r"its header says 14,752 bytes, and it holds 9,000"):
            check_complete(file)
        with pytest.raises(InputError, match="it ends before the last value"):
            read_voxels(file, mask)


@pytest.mark.skipif(ZSTD is not None, reason="Zstandard can be unpacked here")
def test_zstandard_is_asked_for_where_it_is_missing(tmp_path):
    file = tmp_path / "packed.nii.zst"
    file.write_bytes(bytes.fromhex("28b52ffd") + bytes(400))
    with pytest.raises(InputError, match=r"install the package backports.zstd .* or unpack the"):
        check_complete(file)


def test_packed_parts_and_short_contents_are_told_from_a_cut(make_run, tmp_path):
    contents = make_run()[0].read_bytes()
    file = tmp_path / "joined.nii.gz"
    file.write_bytes(gzip.compress(contents[:9000]) + gzip.compress(contents[9000:]))
    check_complete(file)
    file.write_bytes(gzip.compress(contents[:9000]))  # packed well, of a file that was cut before
    with pytest.raises(InputError, match=r"its header says 14,752 bytes, and it holds 9,000"):
        check_complete(file)

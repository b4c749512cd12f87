import numpy as np
import pytest
from PIL import Image

from neurometamer.errors import InputError
from neurometamer.provenance import generator
from neurometamer.run_options import RunOptions
from stimuli_gen import StepOptions, animate_folder, descend, frame_recorder, write_animation
from stimuli_gen.adversarial import class_objective
from stimuli_gen.stimuli import read_png, write_png
from stimuli_gen.synthesis.loop import Start


@pytest.fixture(scope="module")
def frames(photographs):
    """A photograph that comes out of noise: (9, 3, 224, 224)."""
    image = photographs.select(ids=["coffee"]).images[0]
    noise = generator(0, "start").uniform(0, 1, image.shape).astype(np.float32)
    return np.stack(
        [(1 - share) * noise + share * image for share in np.linspace(0, 1, 9, dtype=np.float32)]
    )


def read_back(path):
    """Read a GIF back.

    Returns pixels (n, height, width, 3) uint8, milliseconds (n,) and the palette of the file.
    """
    pixels, times = [], []
    with Image.open(path) as animation:
        assert animation.format == "GIF" and animation.info["loop"] == 0  # for ever
        palette = animation.getpalette()
        for number in range(animation.n_frames):
            animation.seek(number)
            times.append(animation.info["duration"])
            pixels.append(np.asarray(animation.convert("RGB")))
    return np.stack(pixels), times, palette


def levels_of(frames):
    return np.rint(np.asarray(frames) * 255).transpose(0, 2, 3, 1)


def test_frames_times_size_and_colors_come_back(frames, tmp_path):
    path = write_animation(frames, tmp_path / "new" / "coffee.gif", frame_ms=80, hold_ms=1500)
    pixels, times, _ = read_back(path)
    assert pixels.shape == (9, 224, 224, 3)
    assert times == [1500, *[80] * 7, 1500]
    error = np.abs(pixels - levels_of(frames)).mean(axis=(1, 2, 3))
    assert (
        error[-1] < 5 and error.max() < 18
    )  # levels: uniform noise alone would ask for 40 levels a color and channel
    assert [file.name for file in path.parent.iterdir()] == ["coffee.gif"]  # no half files
    first = path.read_bytes()
    assert write_animation(frames, path).read_bytes() == first


def test_what_stays_the_same_does_not_flicker(frames, tmp_path):
    """A dithered or newly chosen palette would change pixels between frames of one picture."""
    still = np.repeat(frames[-1:], 4, axis=0).copy()
    still[:, :, :20, :20] = np.linspace(0, 1, 4, dtype=np.float32)[:, None, None, None]
    pixels, _, _ = read_back(write_animation(still, tmp_path / "still.gif"))
    assert len(pixels) == 4
    assert (pixels[:, 20:] == pixels[:1, 20:]).all() and (
        pixels[:, :20, 20:] == pixels[:1, :20, 20:]
    ).all()
    assert (np.diff(pixels[:, 5, 5].mean(axis=1)) > 50).all()


def test_captions_stand_below_the_image(frames, tmp_path):
    captions = [f"step {2**n}, loss {1 / (n + 1):.3f}" for n in range(9)]
    with_text, times, _ = read_back(write_animation(frames, tmp_path / "a.gif", captions=captions))
    without, _, _ = read_back(write_animation(frames, tmp_path / "b.gif"))
    np.testing.assert_array_equal(with_text[:, :224], without)
    below = with_text[:, 224:]
    assert len(times) == 9 and below.shape[1] == 14
    assert set(np.unique(below)) == {0, 255}
    ink = (below == 0).all(axis=3).sum(axis=(1, 2))
    assert (ink > 60).all()
    assert (np.abs(np.diff(below.astype(int), axis=0)).sum(axis=(1, 2, 3)) > 0).all()
    long, _, _ = read_back(write_animation(frames[:1], tmp_path / "c.gif", captions=["x" * 500]))
    assert long.shape == (1, 238, 224, 3)  # cut off, not wider


def test_equal_neighbors_become_one_frame_that_is_shown_as_long(frames, tmp_path):
    pixels, times, _ = read_back(
        write_animation(frames[[0, 4, 4, 8]], tmp_path / "a.gif", frame_ms=100)
    )
    assert len(pixels) == 3 and times == [1500, 200, 1500]


def test_files_of_frames_give_the_same_animation(frames, tmp_path):
    files = [tmp_path / f"{n}.png" for n in range(9)]
    for file, frame in zip(files, frames, strict=True):
        write_png(file, frame)
    ours = write_animation(frames, tmp_path / "a.gif").read_bytes()
    assert write_animation(files, tmp_path / "b.gif").read_bytes() == ours
    write_png(tmp_path / "small.png", frames[0][:, :50])
    with pytest.raises(
        InputError, match=r"small\.png is \(50, 224\) pixels, the first frame \(224, 224\)"
    ):
        write_animation([*files, tmp_path / "small.png"], tmp_path / "c.gif")
    with pytest.raises(InputError, match=r"gone\.png does not exist"):
        write_animation([*files, tmp_path / "gone.png"], tmp_path / "c.gif")
    assert not (tmp_path / "c.gif").exists()


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"captions": ["one"]}, r"1 caption\(s\) for 9 frame\(s\)"),
        ({"frame_ms": 0}, "frame_ms must be between 10 and 655350 milliseconds, not 0"),
        ({"hold_ms": float("nan")}, "hold_ms is nan; it must be a finite number"),
        ({"frames": np.zeros((0, 3, 4, 4))}, "at least one frame"),
        ({"frames": np.zeros((3, 4, 4))}, r"must be \(n, 3, height, width\), not \(3, 4, 4\)"),
        ({"frames": np.full((1, 3, 4, 4), 2.0)}, r"leave \[0, 1\]"),
        ({"frames": np.full((1, 3, 4, 4), np.nan)}, "not finite"),
    ],
)
def test_bad_requests_are_refused(frames, change, match, tmp_path):
    with pytest.raises(InputError, match=match):
        write_animation(**{"frames": frames, "path": tmp_path / "a.gif", **change})
    assert not list(tmp_path.iterdir())


# -------------------------------------------------------------------------------------------- films


def test_a_recorded_film_becomes_an_animation_for_each_image(frames, tmp_path):
    film = frame_recorder(tmp_path / "film")
    steps = [0, 1, 2, 4, 8, 16, 32, 64, 100]
    for step, frame in zip(steps, frames, strict=True):
        film("coffee_AN", step, frame)
    for step in (0, 1):
        film("cat_AN", step, frames[step])
    assert sorted(file.name for file in (tmp_path / "film" / "coffee_AN").iterdir())[:3] == [
        "000000.png",
        "000001.png",
        "000002.png",
    ]
    np.testing.assert_allclose(
        read_png(tmp_path / "film" / "coffee_AN" / "000064.png"), frames[7], atol=0.5 / 255
    )
    made = animate_folder(
        tmp_path / "film", tmp_path / "gif", losses={"coffee_AN": {0: 3.5, 100: 0.25}}, hold_ms=500
    )
    assert made == {
        stimulus_id: tmp_path / "gif" / f"{stimulus_id}.gif"
        for stimulus_id in ("cat_AN", "coffee_AN")
    }
    pixels, times, _ = read_back(made["coffee_AN"])
    captions = [f"step {step}" for step in steps]
    captions[0], captions[-1] = "step 0, loss 3.5", "step 100, loss 0.25"
    expected, _, _ = read_back(
        write_animation(frames, tmp_path / "by_hand.gif", captions=captions, hold_ms=500)
    )
    assert times == [500, *[80] * 7, 500]
    np.testing.assert_array_equal(pixels, expected)


def test_the_film_of_a_real_descent(lite0, photographs, tmp_path):
    references = photographs.select(ids=["camera", "cat"])
    target = {stimulus_id: np.array(7) for stimulus_id in references.ids}
    images = dict(zip(references.ids, references.images, strict=True))

    def prepare(stimulus_id):
        return Start(
            image=images[stimulus_id],
            context={"target": target[stimulus_id], "anchor": images[stimulus_id]},
        )

    losses = {stimulus_id: {} for stimulus_id in references.ids}

    def watch(seen):
        for stimulus_id, step in seen.steps.items():
            losses[stimulus_id][step] = seen.losses[stimulus_id]

    made = descend(
        class_objective(lite0, "log_probability", 0.0),
        references.ids,
        prepare,
        threshold=2.0,
        steps=StepOptions(step_size=1.0, max_steps=4, keep="last"),
        run=RunOptions(batch_size=2, on_step=watch, on_frame=frame_recorder(tmp_path / "film")),
    )
    for stimulus_id in references.ids:
        first, *_, last = sorted((tmp_path / "film" / stimulus_id).iterdir())
        assert (first.name, last.name) == ("000000.png", "000004.png")
        np.testing.assert_allclose(read_png(first), images[stimulus_id], atol=0.5 / 255 + 1e-6)
        np.testing.assert_allclose(read_png(last), made[stimulus_id].image, atol=0.5 / 255 + 1e-6)
        assert losses[stimulus_id][4] < losses[stimulus_id][0]
    _, times, _ = read_back(animate_folder(tmp_path / "film", tmp_path, losses=losses)["cat"])
    assert (
        len(times) == len(list((tmp_path / "film" / "cat").iterdir()))
        and times[0] == times[-1] == 1500
    )


def test_a_run_that_goes_on_adds_and_one_that_begins_anew_replaces(frames, tmp_path):
    film = frame_recorder(tmp_path)
    for step in (0, 1, 2, 4):
        film("moon", step, frames[step])
    frame_recorder(tmp_path)("moon", 4, frames[8])  # resumed at step 3, came to 4 again
    frame_recorder(tmp_path)("moon", 8, frames[8])
    there = sorted((tmp_path / "moon").iterdir())
    assert [file.stem for file in there] == ["000000", "000001", "000002", "000004", "000008"]
    np.testing.assert_array_equal(read_png(there[3]), read_png(there[4]))
    frame_recorder(tmp_path)("moon", 0, frames[3])
    assert [file.stem for file in (tmp_path / "moon").iterdir()] == ["000000"]


def test_a_folder_without_frames_and_an_id_that_leaves_it_are_refused(frames, tmp_path):
    with pytest.raises(InputError, match="holds no frames"):
        animate_folder(tmp_path / "none", tmp_path / "gif")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="record some with frame_recorder"):
        animate_folder(tmp_path, tmp_path / "gif")
    with pytest.raises(InputError, match="cannot name a file"):
        frame_recorder(tmp_path)("../out", 0, frames[0])

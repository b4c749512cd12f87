"""The recognition experiment in a real browser, the folder it is made of, and the answers that come
back.
"""

from __future__ import annotations

import contextlib
import http.server
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from neurometamer.behavior.experiment import (
    MASKS,
    assign_conditions,
    list_of,
    write_experiment_page,
)
from neurometamer.behavior.trials import ANSWER_COLUMNS, join_key
from neurometamer.errors import InputError
from stimuli_gen.categories import CATEGORIES
from stimuli_gen.stimuli import StimulusSet, read_png, write_stimuli

SIDE = 64
FEW = {"practice": 2, "screening": 1, "pass_mark": 0, "catch": 1, "n_masks": 2}
FAST = {**FEW, "fixation_ms": 17, "image_ms": 17, "mask_ms": 17, "slow_ms": None}
N_TRIALS = 8  # 2 practice, 1 screening, 4 main, 1 catch
MAIN = ("dog", "cat", "clock", "boat")


def _pixels(name: str) -> np.ndarray:
    random = np.random.default_rng([ord(one) for one in name])
    return np.kron(
        random.integers(0, 256, (8, 8, 3), dtype=np.uint8),
        np.ones((SIDE // 8, SIDE // 8, 1), np.uint8),
    )


def _table(folder: Path, rows: list[dict[str, str]], name: str) -> Path:
    for row in rows:
        Image.fromarray(_pixels(row["file"])).save(folder / row["file"])
    pd.DataFrame(rows).to_csv(folder / name, index=False)
    return folder / name


def _main_rows() -> list[dict[str, str]]:
    return [
        {
            "file": f"secret{i}_{one}.png",
            "id": f"secretimage{i}",
            "category": category,
            "condition": f"hidden{one}",
            "stage": f"layer{one}",
            "model": "blindnet",
        }
        for i, category in enumerate(MAIN)
        for one in ("A", "B")
    ]


def _photo_rows(category: str = "") -> list[dict[str, str]]:
    names = [category or one for one in CATEGORIES[:6]]
    return [
        {"file": f"photo{i}.png", "id": f"photograph{i}", "category": one}
        for i, one in enumerate(names)
    ]


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The tables of the main images (4 in 2 conditions) and of 6 photographs."""
    folder = tmp_path_factory.mktemp("sources")
    return _table(folder, _main_rows(), "main.csv"), _table(
        folder, _photo_rows(), "photographs.csv"
    )


def _write(sources: tuple[Path, Path], out: Path, **settings: object) -> Path:
    write_experiment_page([sources[0]], [sources[1]], out, **{**FAST, **settings})
    return out


# -------------------------------------------------------------------------------------- the browser


@pytest.fixture
def browser(chromium):
    """The browser, without what the pages of other tests have stored in it."""
    chromium.get("about:blank")
    chromium.execute_cdp_cmd(
        "Storage.clearDataForOrigin", {"origin": "file://", "storageTypes": "all"}
    )
    return chromium


class Visitor:
    """Does what a participant does, and waits for what the page shows."""

    def __init__(self, browser, address: str) -> None:
        self.browser = browser
        browser.get_log("browser")
        browser.get(address)

    def js(self, script: str):
        return self.browser.execute_script(script)

    def find(self, selector: str):
        return self.browser.find_element("css selector", selector)

    def until(self, condition: str, seconds: float = 20) -> None:
        end = time.monotonic() + seconds
        while not self.js(f"return Boolean({condition})"):
            if time.monotonic() > end:
                shown = self.find("body").text
                pytest.fail(
                    f"waited for {condition}; page: {shown!r}; log: "
                    f"{self.browser.get_log('browser')}"
                )
            time.sleep(0.01)

    def sees(self, section: str) -> None:
        self.until(f"!document.getElementById('{section}').hidden")

    def told(self, words: str) -> None:
        self.until(
            "!document.getElementById('message').hidden && "
            f"document.body.innerText.includes('{words}')"
        )

    def press(self, words: str) -> None:
        """Read the message that has the words and press its first button."""
        self.told(words)
        self.find("#message-buttons button").click()

    def agree(self) -> None:
        self.sees("welcome")
        self.find("#consent").click()
        self.find("#welcome-form button").click()

    def type(self, *keys: str) -> None:
        self.browser.switch_to.active_element.send_keys(*keys)

    def tap(self, selector: str) -> None:
        box = self.find(selector).rect
        point = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}
        self.browser.execute_cdp_cmd(
            "Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [point]}
        )
        self.browser.execute_cdp_cmd(
            "Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []}
        )

    def asked(self) -> None:
        """Wait for the answer grid of the next image."""
        self.until(
            "document.querySelector('#response:not([hidden]) #grid button:not([aria-disabled])')"
        )

    def answer(self, category: str) -> None:
        self.asked()
        self.find(f"[data-category={category}]").click()

    def practice(self) -> None:
        """Go through both practice trials and the screening trial."""
        self.press("Practice")
        for _ in range(2):
            self.answer("dog")
            self.find("#next").click()
        self.press("without being told")
        self.answer("dog")

    def finish(self) -> None:
        """Answer the whole main part."""
        self.press("The main part")
        for number in range(4, N_TRIALS + 1):
            self.until(
                f"document.getElementById('progress-text').textContent === 'Image {number} of "
                f"{N_TRIALS}'"
            )
            self.answer("cat")


def _visit(browser, folder: Path, query: str = "") -> Visitor:
    return Visitor(browser, (folder / "page" / "index.html").as_uri() + query)


def _downloaded(downloads: Path, name: str) -> Path:
    end = time.monotonic() + 10
    while not (found := sorted(downloads.glob(f"{name}_*.csv"))) and time.monotonic() < end:
        time.sleep(0.02)
    assert found, "nothing was downloaded"
    return found[-1]


# ----------------------------------------------------------------------------------- whole sessions


def test_session_by_keyboard_touch_and_mouse_survives_reload_and_hiding(
    browser, sources, tmp_path, downloads
) -> None:
    from selenium.webdriver.common.keys import Keys

    write_experiment_page([sources[0]], [sources[1]], tmp_path, **FEW, block_length=3)
    visitor = _visit(browser, tmp_path, "?participant=P001")
    visitor.agree()
    visitor.press("Practice")
    visitor.asked()
    visitor.type("d")  # dog
    visitor.until("document.getElementById('prompt').className")
    truth = visitor.find("#prompt").text
    assert re.fullmatch(f"(✓ Correct|✗ It was): ({'|'.join(CATEGORIES)})", truth)
    visitor.type(Keys.ENTER)  # the button Next has the focus
    visitor.asked()
    for key in (
        Keys.ARROW_DOWN,
        Keys.ARROW_DOWN,
        Keys.ARROW_RIGHT,
        Keys.ARROW_RIGHT,
        Keys.ARROW_UP,
        Keys.ENTER,
    ):
        visitor.type(key)  # airplane, boat, bottle, car, bicycle
    visitor.until("!document.getElementById('next').hidden")
    visitor.find("#next").click()
    visitor.press("without being told")
    visitor.asked()
    visitor.tap("[data-category=truck]")
    visitor.press("The main part")

    visitor.sees("stimulus")  # reload while an image is on
    browser.refresh()
    visitor.press("Welcome back")  # the same code is in the address
    visitor.press("The main part")
    visitor.answer("cat")
    visitor.until("!document.getElementById('stimulus').hidden")  # hide the tab
    first = browser.current_window_handle
    browser.switch_to.new_window("tab")
    time.sleep(0.2)
    browser.close()
    browser.switch_to.window(first)
    visitor.press("shown once more")
    visitor.answer("cat")
    visitor.answer("knife")
    visitor.press("Part 1 of 2 is done")
    visitor.answer("cat")
    visitor.answer("cat")
    visitor.told("that was the last image")

    saved = _downloaded(downloads, "P001")
    raw = pd.read_csv(saved, dtype=str, keep_default_na=False)
    assert tuple(raw.columns) == ANSWER_COLUMNS
    assert raw["phase"].tolist()[:3] == ["practice", "practice", "screening"]
    assert raw["response"].tolist() == [
        "dog",
        "bicycle",
        "truck",
        "cat",
        "cat",
        "knife",
        "cat",
        "cat",
    ]
    assert raw["repeated"].tolist() == ["0", "0", "0", "1", "1", "0", "0", "0"]
    assert raw["block"].tolist() == ["0", "0", "0", "1", "1", "1", "2", "2"]
    late = raw["phase"].isin(["main", "catch"])
    assert (raw.loc[late, ["truth", "condition", "stage", "model", "correct"]] == "").all().all()
    assert truth.endswith(raw["truth"][0])
    assert browser.get_log("browser") == []

    joined = join_key([saved, saved], tmp_path / "key.csv")
    assert len(joined) == N_TRIALS
    assert joined["participant"].unique().tolist() == ["P001"]
    _check_joined(joined, sources)
    _check_list(joined)
    _check_durations(joined)


def _check_joined(joined: pd.DataFrame, sources: tuple[Path, Path]) -> None:
    """Compare with the tables that the page was made of, not with the key."""
    truth = {
        row["id"]: row["category"]
        for path in sources
        for row in pd.read_csv(path).to_dict("records")
    }
    assert joined["truth"].tolist() == [truth[one] for one in joined["stimulus"]]
    assert joined["correct"].tolist() == [
        int(truth[s] == r) for s, r in zip(joined["stimulus"], joined["response"])
    ]
    main = joined[joined["phase"] == "main"]
    assert sorted(main["stimulus"]) == [f"secretimage{i}" for i in range(4)]
    assert main["condition"].value_counts().to_dict() == {"hiddenA": 2, "hiddenB": 2}
    assert (main["stage"].str[-1] == main["condition"].str[-1]).all()
    assert set(joined.loc[joined["phase"] != "main", "condition"]) == {"natural"}
    assert joined["stimulus"].is_unique


def _check_durations(joined: pd.DataFrame) -> None:
    """Each duration is a whole number of frames, and the nearest to the plan unless frames were
    dropped.
    """
    frame = 1000 / joined["refresh_hz"]
    assert (joined["rt"] > 0).all()
    slow = (joined["trial"] == 1).to_numpy()  # the first half of practice: 500, 400, 400 ms
    for name, first in (("fixation_ms", 500), ("image_ms", 400), ("mask_ms", 400)):
        planned = np.where(slow, first, 300)
        over = joined[name] - planned
        assert (over >= -frame / 2 - 0.1).all()
        assert (over <= (joined["dropped_frames"] + 1) * frame).all()
        assert (np.abs(over) <= frame / 2 + 0.5)[joined["dropped_frames"] == 0].all()
        frames = joined[name] / frame
        assert (np.abs(frames - frames.round()) < 0.25).all()
    assert (joined["dropped_frames"] == 0).any()


def test_list_of_another_participant_has_the_other_conditions(
    browser, sources, tmp_path, downloads
) -> None:
    _write(sources, tmp_path)
    visitor = _visit(browser, tmp_path, "?participant=L4")  # list 0; P001 has list 1
    visitor.agree()
    visitor.press("Practice")
    visitor.answer("dog")
    visitor.until("!document.getElementById('next').hidden")
    browser.refresh()  # the answer is kept before the feedback is shown
    visitor.press("You go on at image 2 of 8")
    visitor.answer("dog")
    visitor.find("#next").click()
    visitor.press("without being told")
    visitor.answer("dog")
    visitor.finish()
    visitor.told("Your answers were saved as a file")
    _check_list(join_key(_downloaded(downloads, "L4"), tmp_path / "key.csv"))


def _check_list(joined: pd.DataFrame) -> None:
    """The page takes the list that Python says."""
    main = joined[joined["phase"] == "main"].sort_values("stimulus")
    images = pd.DataFrame({"reference_id": main["stimulus"].tolist(), "category": MAIN})
    places = assign_conditions(images, ["hiddenA", "hiddenB"], seed=0)[
        :, list_of(main["participant"].iloc[0], 2)
    ]
    assert main["condition"].tolist() == [f"hidden{'AB'[place]}" for place in places]


def test_page_asks_for_code_and_consent_and_ends_after_failed_screening(
    browser, tmp_path, downloads
) -> None:
    main = _table(tmp_path, _main_rows(), "main.csv")
    photographs = _table(tmp_path, _photo_rows("dog"), "photographs.csv")
    _write((main, photographs), tmp_path / "out", screening=2, pass_mark=2)
    visitor = _visit(browser, tmp_path / "out")
    visitor.sees("welcome")
    visitor.find("#participant").send_keys("=cmd()")
    visitor.find("#welcome-form button").click()
    assert "letters, digits" in visitor.find("#participant-error").text
    assert "tick the box" in visitor.find("#consent-error").text
    visitor.find("#participant").clear()
    visitor.find("#participant").send_keys("screened")
    visitor.agree()
    visitor.practice()  # dogs, all right; the first screening image too
    visitor.until("document.getElementById('progress-text').textContent.startsWith('Image 4')")
    visitor.answer("cat")
    visitor.told("the experiment ends here")
    rows = join_key(_downloaded(downloads, "screened"), tmp_path / "out" / "key.csv")
    assert rows["correct"].tolist() == [1, 1, 1, 0]
    visitor = _visit(browser, tmp_path / "out", "?participant=screened")  # no second try
    visitor.told("the experiment ends here")


_EYES = """
const draw = CanvasRenderingContext2D.prototype.drawImage;
window.drawn = [];
CanvasRenderingContext2D.prototype.drawImage = function (image, ...rest) {
  window.drawn.push(image.src.match(/(\\w+)\\.png$/)[1]);
  return draw.call(this, image, ...rest);
};
"""
METAMER = "metamer alexnet relu3"


class Seer(Visitor):
    """Sees the image; answers so many of each condition (or phase) rightly, others wrongly.

    Parameters
    ----------
    key : DataFrame
        What is to be seen in each image.
    right : mapping of str to int
        Condition of the main part, or phase before it or of catch trials, to how many answers are
        right.
    """

    def __init__(
        self, browser, folder: Path, participant: str, key: pd.DataFrame, right: dict[str, int]
    ) -> None:
        super().__init__(
            browser, (folder / "page" / "index.html").as_uri() + f"?participant={participant}"
        )
        self.key, self.right = key.set_index("code"), dict(right)

    def look_and_answer(self) -> None:
        self.asked()
        row = self.key.loc[self.js("return window.drawn.at(-2)")]  # the last one is the mask
        group = row["condition"] if row["phase"] == "main" else row["phase"]
        self.right[group] = self.right.get(group, 0) - 1
        wrong = CATEGORIES[CATEGORIES.index(row["truth"]) - 1]
        time.sleep(0.16)  # faster answers are left out
        self.find(f"[data-category={row['truth'] if self.right[group] >= 0 else wrong}]").click()

    def take_part(self) -> None:
        self.agree()
        self.press("Practice")
        for _ in range(2):
            self.look_and_answer()
            self.find("#next").click()
        self.press("without being told")
        self.look_and_answer()
        self.press("The main part")
        for number in range(4, N_TRIALS + 1):
            self.until(
                f"document.getElementById('progress-text').textContent === 'Image {number} of "
                f"{N_TRIALS}'"
            )
            self.look_and_answer()
        self.told("that was the last image")


def test_sessions_of_several_people_are_joined_and_analyzed(
    browser, sources, tmp_path, downloads, invoke
) -> None:
    """From stimulus folder to report: the numbers of the report are those that were clicked."""
    out = tmp_path / "experiment"
    key = write_experiment_page([_stimulus_folder(tmp_path / "made")], [sources[1]], out, **FAST)
    before = {"practice": 1, "screening": 1, "catch": 1}
    people = {
        "001": before | {"natural": 2, METAMER: 0},
        "002": before | {"natural": 2, METAMER: 1},
        "003": before | {"natural": 2, METAMER: 2, "catch": 0},  # does not attend
    }
    hook = browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": _EYES})
    try:
        for name, right in people.items():
            Seer(browser, out, name, key, right).take_part()
    finally:
        browser.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", hook)
    saved = [str(_downloaded(downloads, name)) for name in people]
    for words in (
        [
            "behavior",
            "join",
            "--answers",
            *saved,
            "--key",
            str(out / "key.csv"),
            "--out",
            str(tmp_path / "answers.csv"),
        ],
        [
            "behavior",
            "analyze",
            str(tmp_path / "answers.csv"),
            "--out",
            str(tmp_path / "analysis"),
            "--strict",
            "--n-permutations",
            "99",
            "--n-resamples",
            "99",
        ],
    ):
        done = invoke(words)
        assert done.exception is None, done.output
    _check_analysis(tmp_path / "analysis")


def _check_analysis(folder: Path) -> None:
    tables = {
        path.stem: pd.read_csv(path, dtype={"participant": str}) for path in folder.glob("*.csv")
    }
    people = tables["screening"].set_index("participant")
    assert people["reason"].fillna("").to_dict() == {
        "001": "",
        "002": "",
        "003": "catch accuracy 0 below 0.75",
    }
    assert (people["screening_accuracy"] == 1).all() and (people["n_usable"] == 4).all()
    assert tables["exclusions"][["participant", "what"]].to_numpy().tolist() == [
        ["003", "observer"]
    ]
    curves = tables["curves"].set_index("stage")
    assert curves.index.tolist() == ["natural", "relu3"] and set(curves["model"]) == {"alexnet"}
    np.testing.assert_allclose(curves[["proportion", "sem"]], [[1, 0], [1 / 4, 1 / 4]])
    (row,) = tables["anova"].to_dict("records")
    assert (row["df1"], row["df2"], row["n"]) == (1, 1, 2)
    np.testing.assert_allclose(row["F"], 9)  # differences 1 and 1/2: t = (3/4) / (1/4)
    confusion = tables["confusion"].query("n > 0 and truth == response").groupby("stage")["n"].sum()
    assert confusion.to_dict() == {"natural": 4, "relu3": 1}
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "left out: 1 observer" in page
    assert "catch accuracy 0 below 0.75" in page and "Simulated" not in page


class _Server(http.server.SimpleHTTPRequestHandler):
    received: ClassVar[list[str]]
    refusals = 2

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        type(self).received.append(body)
        self.send_response(503 if len(self.received) <= self.refusals else 200)
        self.end_headers()
        self.wfile.write(self.reply(body).encode())

    def reply(self, body: str) -> str:
        """What was stored."""
        return body

    def log_message(self, *_: object) -> None:
        pass


def test_answers_are_sent_again_until_confirmed_and_kept_until_then(
    browser, sources, tmp_path
) -> None:
    class Server(_Server):
        received: ClassVar[list[str]] = []

        def __init__(self, *args: object) -> None:
            super().__init__(*args, directory=str(tmp_path / "page"))

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        _write(sources, tmp_path, post_url=f"{address}/answers", post_tries=1, post_wait_ms=10)
        visitor = Visitor(browser, f"{address}/index.html?participant=sender")
        visitor.agree()
        visitor.practice()
        visitor.finish()
        visitor.told("could not be sent")
        kept = (
            "JSON.parse(Object.entries(localStorage).find(([name]) => "
            "name.endsWith('sender'))[1]).rows.length"
        )
        assert visitor.js(f"return {kept}") == N_TRIALS
        browser.refresh()  # tries again, in vain
        visitor.told("could not be sent")
        visitor.press("could not be sent")
        visitor.told("Your answers were sent")
        assert visitor.js(f"return {kept}") == 0
        server.shutdown()
    assert len(Server.received) == 3
    assert len(set(Server.received)) == 1
    (tmp_path / "sent.csv").write_text(Server.received[-1])
    assert len(join_key(tmp_path / "sent.csv", tmp_path / "key.csv")) == N_TRIALS


@contextlib.contextmanager
def _served(folder: Path, *, refusals: int = 0) -> Iterator[tuple[str, type[_Server]]]:
    """Serve a page and take answers; gives the address and the handler, whose reply can be
    exchanged.
    """

    class Server(_Server):
        received: ClassVar[list[str]] = []

        def __init__(self, *args: object) -> None:
            super().__init__(*args, directory=str(folder / "page"))

    Server.refusals = refusals
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", Server
        server.shutdown()


KEPT = (
    "JSON.parse(Object.entries(localStorage).find(([name]) => name.endsWith('{}'))[1]).rows.length"
)


def test_reply_that_is_not_the_stored_answers_leaves_them_here(
    browser, sources, tmp_path, downloads
) -> None:
    """A network that asks to log in answers everything with status 200, and may show what it was
    asked for.
    """
    with _served(tmp_path) as (address, server):
        _write(sources, tmp_path, post_url=f"{address}/answers", post_tries=1)
        replies = ["", "<html>Log in</html>", "ok", f"{N_TRIALS}"]
        server.reply = lambda self, body: replies[-1] if replies else body
        visitor = Visitor(browser, f"{address}/index.html?participant=portal")
        visitor.agree()
        visitor.practice()
        visitor.finish()
        while replies:
            visitor.told("did not confirm that it stored them")
            assert visitor.js(f"return {KEPT.format('portal')}") == N_TRIALS
            labels = [
                button.text
                for button in browser.find_elements("css selector", "#message-buttons button")
            ]
            assert labels == ["Try again", "Save data"]
            replies.pop()
            visitor.press("did not confirm")
        visitor.told("Your answers were sent")
    assert len(set(server.received)) == 1
    (tmp_path / "sent.csv").write_text(server.received[-1])
    assert len(join_key(tmp_path / "sent.csv", tmp_path / "key.csv")) == N_TRIALS


# --------------------------------------------------------------------------- what the browser keeps


@pytest.mark.parametrize("by_server", [False, True])
def test_second_tab_goes_on_only_where_the_first_stops(
    browser, sources, tmp_path, downloads, by_server
) -> None:
    _write(sources, tmp_path)
    with _served(tmp_path) as (address, _):
        place = (
            f"{address}/index.html" if by_server else (tmp_path / "page" / "index.html").as_uri()
        )
        name = f"tabs{int(by_server)}"
        visitor = Visitor(browser, f"{place}?participant={name}")
        visitor.agree()
        visitor.practice()
        visitor.press("The main part")
        visitor.answer("cat")
        visitor.asked()  # the fifth image is on
        first = browser.current_window_handle
        browser.switch_to.new_window("tab")
        second = Visitor(browser, f"{place}?participant={name}")
        second.press("open in another tab")  # try again
        time.sleep(0.1)
        second.told("open in another tab")
        browser.switch_to.window(first)
        visitor.press("shown once more")
        visitor.answer("cat")
        visitor.asked()  # the sixth
        browser.switch_to.window(browser.window_handles[-1])
        second.told("open in another tab")
        second.find("#message-buttons button:last-child").click()
        second.press("You go on at image 6 of 8")
        for _ in range(3):
            second.answer("cat")
        second.told("that was the last image")
        browser.close()
        browser.switch_to.window(first)
        visitor.told("goes on in another tab")
        assert visitor.js("return document.getElementById('response').hidden")
    joined = join_key(_downloaded(downloads, name), tmp_path / "key.csv")
    assert joined["trial"].tolist() == list(range(1, N_TRIALS + 1))
    assert joined["repeated"].tolist() == [0, 0, 0, 0, 1, 1, 0, 0]
    assert joined["stimulus"].is_unique


def test_two_pages_that_keep_answers_at_once_lose_none(browser, sources, tmp_path) -> None:
    """Both kept their answers before either knew of the other."""
    _write(sources, tmp_path)
    visitor = _visit(browser, tmp_path)
    stored = visitor.js(
        """
        const columns = ["participant", "trial", "repeated", "response"];
        const [a, b] = [0, 1].map(() => window.answerStore("v", columns, (text) => text.length));
        const state = (...rows) => ({ participant: "P", rows, starts: { 0: 1 }, failed: false, finished: false });
        const [one, two] = [state(["P", 1, 0, "cat"], ["P", 2, 0, "dog"]), state(["P", 1, 0, "cat"])];
        a.keep(one);
        two.rows.push(["P", 2, 0, "boat"], ["P", 3, 0, "car"]);
        b.keep(two);
        one.rows.push(["P", 4, 0, "oven"]);
        a.keep(one);
        return b.read("P").state.rows;
        """
    )
    shown = [
        ["P", 1, 0, "cat"],
        ["P", 2, 0, "dog"],
        ["P", 2, 1, "boat"],
        ["P", 3, 0, "car"],
        ["P", 4, 0, "oven"],
    ]
    assert stored == shown


_FILL = """
let size = 1 << 20;
for (let i = 0; size >= 1; i += 1) {
  try { localStorage.setItem(`fill${i}`, 'x'.repeat(size)); } catch { size = Math.floor(size / 2); }
}
"""


def test_storage_that_fills_up_is_announced_and_no_answer_is_lost(
    browser, sources, tmp_path, downloads
) -> None:
    _write(sources, tmp_path)
    visitor = _visit(browser, tmp_path, "?participant=full")
    visitor.agree()
    visitor.practice()
    visitor.press("The main part")
    visitor.asked()
    visitor.js(_FILL)
    visitor.answer("cat")
    visitor.told("no more room to keep your answers")
    visitor.find("#message-buttons button:last-child").click()  # save
    rows = pd.read_csv(_downloaded(downloads, "full"))
    assert len(rows) == 4
    visitor.press("no more room")
    visitor.asked()
    assert "not kept: save your data" in visitor.find("#progress-text").text
    visitor.answer("cat")
    visitor.asked()
    visitor.js(
        "for (const name of Object.keys(localStorage)) if (name.startsWith('fill')) "
        "localStorage.removeItem(name)"
    )
    visitor.answer("cat")
    visitor.asked()
    assert visitor.find("#progress-text").text == f"Image 7 of {N_TRIALS}"
    assert visitor.js(f"return {KEPT.format('full')}") == 6
    browser.refresh()
    visitor.press(f"You go on at image 7 of {N_TRIALS}")


_DAMAGES = {
    "cut off in a row": ("(text) => text.slice(0, text.indexOf('\\n', text.length / 2) + 9)", None),
    "cut off in the head": ("(text) => text.slice(0, 20)", 0),
    "one letter of one answer": ("(text) => text.replace('\"cat\"', '\"bat\"')", 4),
    "one letter of the head": ("(text) => text.replace('\"failed\":false', '\"failed\":true')", 5),
    "a row that is gone": (
        "(text) => text.split('\\n').filter((line, i) => i !== 2).join('\\n')",
        4,
    ),
    "nothing in it": ("() => ''", 0),
}


@pytest.mark.parametrize("damage", _DAMAGES)
def test_damaged_answers_are_told_and_the_good_ones_kept(
    browser, sources, tmp_path, downloads, damage
) -> None:
    change, n_good = _DAMAGES[damage]
    name = "damaged" + "".join(word[0] for word in damage.split())
    _write(sources, tmp_path)
    visitor = _visit(browser, tmp_path, f"?participant={name}")
    visitor.agree()
    visitor.practice()
    visitor.press("The main part")
    for _ in range(2):
        visitor.answer("cat")
    visitor.asked()
    stored = f"Object.keys(localStorage).find((name) => name.endsWith('{name}'))"
    visitor.js(
        f"const name = {stored}; localStorage.setItem(name, ({change})(localStorage.getItem(name)))"
    )
    browser.refresh()
    visitor.told("cannot be read any more")
    text = visitor.find("#message-text").text
    good = int(re.search(r"(\d+) answers? can be read", text)[1])
    assert good == n_good if n_good is not None else 0 < good < 5
    visitor.find("#message-buttons button:last-child").click()
    saved = downloads / f"{name}_damaged.txt"
    end = time.monotonic() + 10
    while not saved.exists() and time.monotonic() < end:
        time.sleep(0.02)
    visitor.press("cannot be read any more")
    _answer_the_rest(visitor)
    joined = join_key(_downloaded(downloads, name), tmp_path / "key.csv")
    assert joined["trial"].tolist() == list(range(1, N_TRIALS + 1))
    assert (joined["repeated"] == 0).sum() == good
    assert visitor.js(
        f"return Object.keys(localStorage).some((name) => name.includes('{name}:damaged:'))"
    )


def test_damaged_answers_without_room_for_a_copy_are_saved_first(
    browser, sources, tmp_path, downloads
) -> None:
    _write(sources, tmp_path)
    visitor = _visit(browser, tmp_path, "?participant=tight")
    visitor.agree()
    visitor.practice()
    visitor.press("The main part")
    visitor.answer("cat")
    visitor.asked()
    stored = "Object.keys(localStorage).find((name) => name.endsWith('tight'))"
    visitor.js(
        f"const name = {stored}; localStorage.setItem(name, "
        "localStorage.getItem(name).replace('cat', 'bat'))"
    )
    damaged = visitor.js(f"return localStorage.getItem({stored})")
    visitor.js(_FILL)
    browser.refresh()
    visitor.told("cannot be read any more")
    assert [
        one.text for one in browser.find_elements("css selector", "#message-buttons button")
    ] == ["Save damaged data"]
    assert visitor.js(f"return localStorage.getItem({stored})") == damaged
    visitor.press("cannot be read any more")
    saved = downloads / "tight_damaged.txt"
    end = time.monotonic() + 10
    while not saved.exists() and time.monotonic() < end:
        time.sleep(0.02)
    assert saved.read_text() == damaged
    visitor.press("cannot be read any more")  # the first button is Continue now
    visitor.told("Welcome back")


_GO_ON = """
const visible = (selector) => [...document.querySelectorAll(selector)].find((one) => one.offsetParent);
if (document.body.innerText.includes('that was the last image')) return true;
const next = visible('#message-buttons button') || visible('#next')
  || visible('#grid button[data-category=cat]:not([aria-disabled])');
if (next) next.click();
return false;
"""


def _answer_the_rest(visitor: Visitor) -> None:
    """Press and answer whatever comes until the end."""
    end = time.monotonic() + 30
    while not visitor.js(_GO_ON):
        assert time.monotonic() < end, visitor.find("body").text
        time.sleep(0.02)


def test_unloadable_image_is_named_and_tried_again(browser, sources, tmp_path) -> None:
    _write(sources, tmp_path, n_masks=1)
    images = sorted((tmp_path / "page" / "images").glob("*.png"))
    whole = {path: path.read_bytes() for path in images}
    for path in images[::2]:
        path.write_bytes(b"<html>not found</html>")
    for path in images[1::2]:
        path.unlink()
    visitor = _visit(browser, tmp_path, "?participant=loader")
    visitor.agree()
    visitor.told("did not load")
    assert ".png" in visitor.find("#message-text").text
    assert (
        f"({N_TRIALS + 1} in all)" in visitor.find("#message-text").text
    )  # its own images and the mask
    for path, content in whole.items():
        path.write_bytes(content)
    visitor.press("did not load")
    visitor.told("Practice")


def test_session_without_storage_says_so_and_goes_on(browser, sources, tmp_path, downloads) -> None:
    _write(sources, tmp_path)
    blocked = (
        "Object.defineProperty(window, 'localStorage', {get() { throw new DOMException('no', "
        "'SecurityError'); }})"
    )
    added = browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": blocked})
    try:
        visitor = _visit(browser, tmp_path, "?participant=forgetful")
        visitor.agree()
        visitor.press("keeps nothing")
        visitor.practice()
        visitor.press("The main part")
        visitor.asked()
        visitor.find("#save").click()  # in between
        assert len(pd.read_csv(_downloaded(downloads, "forgetful"))) == 3
        for _ in range(5):
            visitor.answer("cat")
        visitor.told("that was the last image")
    finally:
        browser.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", added)


# -------------------------------------------------------------------------- looks and accessibility

_CONTRASTS = """
const light = (text) => {
  const [r, g, b] = text.match(/[\\d.]+/g).slice(0, 3).map((one) => {
    const value = one / 255;
    return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const behind = (element) => {
  for (let one = element; one; one = one.parentElement) {
    const color = getComputedStyle(one).backgroundColor;
    if (!/, 0\\)$/.test(color)) return color;
  }
  return 'rgb(255, 255, 255)';
};
return [...document.querySelectorAll('main *:not(.unseen)')].filter((one) => one.getClientRects().length
  && [...one.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim())).map((one) => {
  const [a, b] = [light(getComputedStyle(one).color), light(behind(one))].sort((x, y) => y - x);
  return [one.textContent.trim().slice(0, 30), (a + 0.05) / (b + 0.05)];
});
"""


def _readable(visitor: Visitor) -> None:
    found = visitor.js(_CONTRASTS)
    assert found
    assert [one for one in found if one[1] < 4.5] == []


def test_every_screen_is_readable_named_and_reached_by_tab(browser, sources, tmp_path) -> None:
    from selenium.webdriver.common.keys import Keys

    _write(sources, tmp_path)
    visitor = _visit(browser, tmp_path)
    visitor.sees("welcome")
    visitor.find("#welcome-form button").click()  # shows both errors
    _readable(visitor)
    assert visitor.find("#participant").accessible_name == "Your participant code"
    assert visitor.find("#consent").accessible_name == "I have read this and I agree to take part."
    assert visitor.find("#participant").get_attribute("aria-invalid") == "true"
    visitor.find("#participant").send_keys("tabber")
    visitor.agree()
    visitor.told("Practice")
    _readable(visitor)
    visitor.type(Keys.ENTER)  # the button has the focus
    visitor.asked()
    _readable(visitor)
    assert visitor.js("return document.activeElement.id") == "grid"
    assert visitor.find("#grid").aria_role == "group"
    buttons = browser.find_elements("css selector", "#grid button")
    assert [one.accessible_name for one in buttons] == list(CATEGORIES)
    keys = [one.get_attribute("aria-keyshortcuts") for one in buttons]
    assert len(set(keys)) == 16
    assert [one.text.split()[0].lower() for one in buttons] == keys  # shown on the icons
    order = []
    for _ in range(17):
        visitor.type(Keys.TAB)
        order.append(
            visitor.js(
                "return document.activeElement.dataset.category || document.activeElement.id"
            )
        )
    assert order == [*CATEGORIES, "save"]
    style = "getComputedStyle(document.activeElement)"
    assert visitor.js(f"return [{style}.outlineStyle, parseFloat({style}.outlineWidth) >= 3]") == [
        "solid",
        True,
    ]
    symbols = visitor.js(
        "return [...document.querySelectorAll('#grid use')].map((one) => one.getBBox().width)"
    )
    assert len(symbols) == 16
    assert min(symbols) > 10  # every pictogram is there
    visitor.type(Keys.SHIFT, Keys.TAB)
    buttons[0].click()
    visitor.until("!document.getElementById('next').hidden")
    time.sleep(0.2)  # the borders' change of color
    _readable(visitor)
    assert visitor.js("return document.activeElement.id") == "next"
    browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia",
        {"features": [{"name": "prefers-reduced-motion", "value": "reduce"}]},
    )
    moving = (
        "[...document.querySelectorAll('*')].map((one) => getComputedStyle(one).transitionDuration)"
    )
    assert set(visitor.js(f"return {moving}")) == {"0s"}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_phone_screen_shows_all_answers_without_scrolling(browser, sources, tmp_path) -> None:
    _write(sources, tmp_path)
    size = {"width": 360, "height": 640, "deviceScaleFactor": 2, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        visitor = _visit(browser, tmp_path, "?participant=phone")
        wide = "return document.documentElement.scrollWidth"
        visitor.sees("welcome")
        assert visitor.js(wide) <= 360
        visitor.agree()
        visitor.told("Practice")
        assert visitor.js(wide) <= 360
        visitor.press("Practice")
        visitor.asked()
        boxes = visitor.js(
            "return [...document.querySelectorAll('#grid button, #save')].map((one) => {"
            "const box = one.getBoundingClientRect(); return [box.left, box.top, box.right, "
            "box.bottom,"
            "one.contains(document.elementFromPoint((box.left + box.right) / 2, (box.top + "
            "box.bottom) / 2)),"
            "one.scrollWidth <= one.clientWidth && one.scrollHeight <= one.clientHeight]; })"
        )
        assert len(boxes) == 17
        for left, top, right, bottom, reachable, fits in boxes:
            assert 0 <= left < right <= 360
            assert 0 <= top < bottom <= 640
            assert right - left >= 44
            assert bottom - top >= 44
            assert reachable
            assert fits
        assert visitor.js("return [document.documentElement.scrollHeight <= 640, innerWidth]") == [
            True,
            360,
        ]
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


# --------------------------------------------------------------------------------------- the folder


def test_published_folder_reveals_no_answer(sources, tmp_path) -> None:
    _write(sources, tmp_path)
    page = tmp_path / "page"
    key = pd.read_csv(tmp_path / "key.csv", dtype=str)
    assert sorted(one.name for one in page.iterdir()) == [
        "app.js",
        "experiment.js",
        "images",
        "index.html",
        "storage.js",
        "style.css",
    ]
    secrets = {
        *key["id"],
        *key["file"],
        *key["condition"],
        *key["stage"],
        "hiddenA",
        "secret",
        "blindnet",
    } - {"natural"}
    for path in page.rglob("*"):
        if path.is_file():
            content = path.read_bytes().decode("latin-1")
            assert [
                one for one in secrets if isinstance(one, str) and one in content + path.name
            ] == []
    script = (page / "experiment.js").read_text()
    for category in CATEGORIES:
        assert script.count(f'"{category}"') == 1  # in the list of answers and nowhere else
    names = [one.stem for one in (page / "images").iterdir()]
    assert all(re.fullmatch("[0-9a-f]{16}", one) for one in names)
    assert len(names) == len(key) + FAST["n_masks"]
    for path in (page / "images").iterdir():
        with Image.open(path) as image:
            assert image.info == {}  # no text chunks, no dates
            assert image.size == (SIDE, SIDE)
    row = key[key["id"] == "secretimage2"].iloc[0]
    shown = read_png(page / "images" / f"{row['code']}.png")
    np.testing.assert_array_equal((shown * 255).round().transpose(1, 2, 0), _pixels(row["file"]))


def test_page_needs_no_network() -> None:
    folder = Path(__file__).parents[2] / "neurometamer" / "templates" / "experiment"
    for path in folder.iterdir():
        assert not re.search(
            r"https?://|//cdn|@import|type=.module", path.read_text(encoding="utf-8")
        )


def test_same_settings_write_the_same_page_and_others_are_refused(sources, tmp_path) -> None:
    _write(sources, tmp_path)
    before = {path: path.read_bytes() for path in sorted(tmp_path.rglob("*")) if path.is_file()}
    _write(sources, tmp_path)
    assert {
        path: path.read_bytes() for path in sorted(tmp_path.rglob("*")) if path.is_file()
    } == before
    with pytest.raises(InputError, match="another experiment"):
        _write(sources, tmp_path, seed=1)
    other = pd.read_csv(_write(sources, tmp_path / "other", seed=1) / "key.csv")
    assert set(other["code"]).isdisjoint(pd.read_csv(tmp_path / "key.csv")["code"])


@pytest.mark.parametrize(("n_images", "n_conditions"), [(12, 3), (37, 5), (3, 7), (400, 8)])
def test_conditions_are_balanced_over_images_categories_and_lists(n_images, n_conditions) -> None:
    categories = np.random.default_rng(n_images).choice(CATEGORIES, n_images)
    images = pd.DataFrame(
        {"reference_id": [f"i{i}" for i in range(n_images)], "category": categories}
    )
    places = assign_conditions(images, [f"c{i}" for i in range(n_conditions)], seed=4)
    assert all(sorted(row) == list(range(n_conditions)) for row in places)
    for column in places.T:
        for part in [column, *(column[categories == one] for one in set(categories))]:
            counts = np.bincount(part, minlength=n_conditions)
            assert counts.max() - counts.min() <= 1
    assert (
        places != assign_conditions(images, [f"c{i}" for i in range(n_conditions)], seed=5)
    ).any()


@pytest.mark.parametrize("kind", MASKS)
def test_masks_are_made_by_seed_and_hide_the_images(sources, kind) -> None:
    images = [
        np.zeros((3, 16, 16), np.float32) + 0.4,
        np.float32(np.random.default_rng(0).random((3, 16, 16))),
    ]
    first, same, other = (
        MASKS[kind](images.__getitem__, 2, np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, same)
    assert (first != other).any()
    assert first.shape == (3, 16, 16)
    assert 0 <= first.min() <= first.max() <= 1
    if kind == "phase":
        mask = MASKS[kind](lambda i: images[1], 1, np.random.default_rng(3))
        assert abs(np.corrcoef(mask.ravel(), images[1].ravel())[0, 1]) < 0.3
        assert mask.mean() == pytest.approx(
            images[1].mean(), abs=0.02
        )  # clipping moves it a little


def _stimulus_folder(folder: Path, lacking: int = 0) -> Path:
    """Photographs of four images and metamers of all but the first so many, as the commands write
    them.
    """
    rows = []
    for i, category in enumerate(MAIN):
        rows.append({"id": f"n{i}", "kind": "RE", "reference_id": f"n{i}", "category": category})
        if i >= lacking:
            rows.append(
                {
                    "id": f"n{i}_metamer",
                    "kind": "metamer",
                    "reference_id": f"n{i}",
                    "category": category,
                    "model": "alexnet",
                    "stage": "relu3",
                }
            )
    images = np.random.default_rng(0).random((len(rows), 3, SIDE, SIDE)).astype(np.float32)
    return write_stimuli(StimulusSet(images=images, table=pd.DataFrame(rows)), folder)


def test_command_reads_stimulus_folders_and_fills_missing_conditions(
    sources, tmp_path, invoke
) -> None:
    folder = _stimulus_folder(tmp_path / "made", lacking=1)
    few = ["--practice", "2", "--screening", "1", "--pass-mark", "0", "--catch", "1"]
    words = [
        "behavior",
        "page",
        "--images",
        str(folder),
        "--photographs",
        str(sources[1]),
        "--out",
        str(tmp_path / "out"),
        *few,
    ]
    refused = invoke(words)
    assert isinstance(refused.exception, InputError)
    assert "n0 in 'metamer alexnet relu3'" in str(refused.exception)
    (tmp_path / "consent.txt").write_text("Please </script> agree.\n\nSecond.")
    done = invoke(
        [
            *words,
            "--incomplete",
            "photograph",
            "--consent",
            str(tmp_path / "consent.txt"),
            "--no-slow",
        ],
    )
    assert done.exception is None
    assert "4 images in 2 conditions" in done.output
    key = pd.read_csv(tmp_path / "out" / "key.csv", dtype=str)
    main = key[key["phase"] == "main"].set_index("id")
    assert set(main["condition"]) == {"natural", "metamer alexnet relu3"}
    assert main.loc["n1_metamer", ["reference_id", "stage", "model", "truth"]].tolist() == [
        "n1",
        "relu3",
        "alexnet",
        "cat",
    ]
    script = (tmp_path / "out" / "page" / "experiment.js").read_text()
    assert script.count(main.loc["n0", "code"]) == 2  # in both lists: its metamer is missing
    assert script.count(main.loc["n1", "code"]) == 1
    assert '"slow": null' in script


# ---------------------------------------------------------------------------------------- bad input


def _refused(
    tmp_path: Path, match: str, rows: list[dict], photographs: list[dict] | None = None, **settings
) -> str:
    main = _table(tmp_path, rows, "main.csv")
    others = _table(
        tmp_path, _photo_rows() if photographs is None else photographs, "photographs.csv"
    )
    with pytest.raises(InputError, match=match) as refused:
        _write((main, others), tmp_path / "out", **settings)
    assert not (tmp_path / "out").exists()
    return str(refused.value)


def _changed(row: int, **cells: str) -> list[dict[str, str]]:
    rows = _main_rows()
    rows[row].update(cells)
    return rows


@pytest.mark.parametrize(
    ("rows", "match"),
    [
        (_changed(3, category="kat"), r"'secretimage1' 'kat'; did you mean 'cat'"),
        (_changed(3, category=""), "'secretimage1' of the stimuli has no category"),
        (_changed(3, category="dog"), "different categories: secretimage1"),
        (
            _changed(1, condition="hiddenA"),
            "two images are the same id: secretimage0 in condition 'hiddenA'",
        ),
        (_changed(0, condition=""), "no condition for secretimage0"),
        (_main_rows()[:-1], "missing for an image: secretimage3 in 'hiddenB'"),
        (_changed(0, id=""), "1 of the stimuli have no id"),
    ],
)
def test_unusable_stimuli_are_refused_by_name(tmp_path, rows, match) -> None:
    told = _refused(tmp_path, match, rows)
    assert told and "\n" not in told


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"practice": 0}, "at least 1 practice image"),
        ({"catch": 9}, "12 photographs are needed .*9 catch.*, 6 are there"),
        ({"pass_mark": 2}, "pass mark is 0 to the 1"),
        ({"mask": "phas"}, "did you mean 'phase'"),
        ({"image_ms": 0}, "above 0 ms"),
        ({"missing": "skip"}, "unknown rule for missing"),
    ],
)
def test_unusable_settings_are_refused(tmp_path, settings, match) -> None:
    told = _refused(tmp_path, match, _main_rows(), **settings)
    assert told and "\n" not in told


def test_unusable_files_are_refused(tmp_path) -> None:
    photographs = _photo_rows()
    photographs[0]["id"] = "secretimage1"
    _refused(tmp_path, "main part, too: secretimage1", _main_rows(), photographs)
    main = _table(tmp_path, _main_rows(), "main.csv")
    others = _table(tmp_path, _photo_rows(), "photographs.csv")
    Image.fromarray(_pixels("x")[:32]).save(tmp_path / "secret1_B.png")
    with pytest.raises(InputError, match=r"differ in size \(64 x 64.*64 x 32: secretimage1"):
        _write((main, others), tmp_path / "out")
    (tmp_path / "secret1_B.png").write_bytes(b"not an image")
    with pytest.raises(InputError, match=r"secret1_B\.png cannot be decoded"):
        _write((main, others), tmp_path / "out")
    (tmp_path / "secret1_B.png").unlink()
    with pytest.raises(InputError, match=r"do not exist: .*secret1_B\.png"):
        _write((main, others), tmp_path / "out")
    with pytest.raises(InputError, match=r"holds no stimuli\.csv"):
        write_experiment_page([tmp_path], [others], tmp_path / "out")


def _answers(key: Path, path: Path, **cells: str) -> Path:
    known = pd.read_csv(key, dtype=str, keep_default_na=False)
    row = dict.fromkeys(ANSWER_COLUMNS, "1") | {
        "participant": "007",
        "phase": "main",
        "response": "dog",
    }
    row |= {"stimulus": known["code"][0], "page_version": known["page_version"][0], **cells}
    pd.DataFrame([row]).to_csv(path, index=False)
    return path


def test_answers_that_do_not_fit_the_key_are_refused(sources, tmp_path, invoke) -> None:
    key = _write(sources, tmp_path) / "key.csv"
    good = _answers(key, tmp_path / "a.csv")
    joined = join_key(good, key)
    assert joined["participant"].tolist() == ["007"]  # stays text
    assert joined["correct"].tolist() == [1]  # the first image is a dog
    for cells, match in (
        ({"page_version": "other"}, "saved by another page"),
        ({"stimulus": "0" * 16}, "names images that the key lacks: 0000"),
        ({"response": "dgo"}, "none of the 16 categories: dgo"),
    ):
        with pytest.raises(InputError, match=match):
            join_key(_answers(key, tmp_path / "b.csv", **cells), key)
    with pytest.raises(InputError, match="disagree about 007 trial 1"):
        join_key([good, _answers(key, tmp_path / "b.csv", response="cat")], key)
    done = invoke(
        [
            "behavior",
            "join",
            "--answers",
            str(good),
            "--key",
            str(key),
            "--out",
            str(tmp_path / "joined.csv"),
        ],
    )
    assert "1 trials of 1 participants" in done.output
    assert pd.read_csv(tmp_path / "joined.csv", dtype=str)["participant"].tolist() == ["007"]

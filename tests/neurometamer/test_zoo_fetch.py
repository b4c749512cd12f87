"""Downloads of weights: resumed, checked, and nothing wrong is kept; against a server on this machine."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import io
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest
import torch

from neurometamer.errors import InputError
from neurometamer.zoo import MODELS, fetch_weights, load_model
from neurometamer.zoo.fetching import address_of, download

NAME = "squeezenet1_0"
FILE = MODELS[NAME].weights_file


class Server(http.server.ThreadingHTTPServer):
    """Gives the files in `files`; `cut` says after how many bytes it hangs up, once."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.cut, self.asked, self.ranges, self.slow = {}, None, [], True, False

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        content = self.server.files.get(self.path.lstrip("/"))
        begin = self.headers.get("Range")
        self.server.asked.append(begin)
        if not self.server.ranges:
            begin = None
        if content is None:
            self.send_error(404)
            return
        first = int(begin.removeprefix("bytes=").rstrip("-")) if begin else 0
        if first and first >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if begin else 200)
        self.send_header("Content-Length", str(len(content) - first))
        self.end_headers()
        rest = content[first:]
        if self.server.cut is not None:
            rest, self.server.cut = rest[: self.server.cut], None
        if self.server.slow:
            with contextlib.suppress(OSError):  # the other side may be killed
                while rest:
                    self.wfile.write(rest[:100_000])
                    rest = rest[100_000:]
                    time.sleep(0.02)
            return
        self.wfile.write(rest)

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def content():
    state = load_model(NAME, weights="random", seed=5, device="cpu").network.state_dict()
    file = io.BytesIO()
    torch.save(state, file)
    return file.getvalue()


@pytest.fixture
def cache(server, content, tmp_path, monkeypatch):
    """An empty cache, the server as the mirror, and the digest of its file in the table."""
    server.files[FILE] = content
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("NEUROMETAMER_MIRROR", server.url)
    digest = hashlib.sha256(content).hexdigest()
    monkeypatch.setitem(MODELS, NAME, replace(MODELS[NAME], sha256=digest))
    return tmp_path / "hub" / "checkpoints"


def test_weights_are_downloaded_once_and_loaded(server, cache, content):
    steps = []
    file = fetch_weights(NAME, progress=lambda done, total: steps.append((done, total)))
    assert file == cache / FILE and file.read_bytes() == content
    assert steps[-1] == (len(content) // 2**20, -(-len(content) // 2**20))
    assert fetch_weights(NAME, offline=True) == file
    assert len(server.asked) == 1
    model = load_model(NAME, device="cpu")
    assert model.weights == f"imagenet ({FILE})"
    assert [path.name for path in cache.iterdir()] == [FILE]


def test_a_download_that_was_cut_off_goes_on_where_it_stopped(server, cache, content):
    server.cut = 1_000_000
    message = rf"stopped after 1000000 of {len(content)} bytes; run the same again"
    with pytest.raises(InputError, match=message):
        fetch_weights(NAME)
    assert not (cache / FILE).exists()
    assert fetch_weights(NAME).read_bytes() == content
    assert server.asked == [None, "bytes=1000000-"]


def test_a_server_that_gives_no_parts_gives_the_file_from_its_beginning(server, cache, content):
    server.cut, server.ranges = 1_000_000, False
    with pytest.raises(InputError, match="stopped after 1000000"):
        fetch_weights(NAME)
    assert fetch_weights(NAME).read_bytes() == content
    assert server.asked == [None, "bytes=1000000-"]


KILLED = """
import sys
from pathlib import Path
from neurometamer.zoo.fetching import download

download(sys.argv[1], Path(sys.argv[2]))
"""


def test_a_killed_download_goes_on_where_it_was(server, tmp_path):
    body = bytes(range(256)) * 20_000
    server.files["x.pt"], server.slow = body, True
    goal = tmp_path / "x.pt"
    words = [sys.executable, "-c", KILLED, f"{server.url}/x.pt", str(goal)]
    with subprocess.Popen(words) as process:
        part = tmp_path / "part-x.pt"
        for _ in range(600):
            if part.is_file() and part.stat().st_size > 1_000_000:
                break
            time.sleep(0.1)
        process.kill()
    n_here = part.stat().st_size
    assert 0 < n_here < len(body) and not goal.exists()
    server.slow = False
    download(f"{server.url}/x.pt", goal)
    assert goal.read_bytes() == body
    assert server.asked == [None, f"bytes={n_here}-"]


def test_downloads_go_through_the_proxy_of_the_environment(server, tmp_path, monkeypatch):
    address = "http://weights.example/x.pt"
    server.files[address] = b"weights"  # a proxy is asked for the whole address
    monkeypatch.setenv("http_proxy", server.url)
    monkeypatch.delenv("no_proxy", raising=False)
    download(address, tmp_path / "x.pt")
    assert (tmp_path / "x.pt").read_bytes() == b"weights"


def test_a_part_that_is_longer_than_the_file_is_thrown_away(cache, content):
    cache.mkdir(parents=True)
    (cache / f"part-{FILE}").write_bytes(bytes(len(content) + 5))
    assert fetch_weights(NAME).read_bytes() == content


def test_what_is_not_the_file_is_refused_and_not_kept(server, cache, content, monkeypatch):
    wrong = load_model("efficientnet_lite0", weights="random", device="cpu").network.state_dict()
    other = io.BytesIO()
    torch.save(wrong, other)
    own = MODELS[NAME]
    refused = [
        (
            b"<!DOCTYPE html><html>quota</html>",
            "",
            r"what http\S* gave for squeezenet.* is a web page",
        ),
        (b"", "", r"gave for squeezenet.* is empty: download"),
        (b"version https://git-lfs.github.com/spec/v1\n", "", "is a pointer of Git LFS, not"),
        (content[:-1] + b"x", own.sha256, rf"has the SHA-256 .*, not {own.sha256}"),
        (content[: len(content) // 2], "", r"cannot be read as a state dict"),
        (other.getvalue(), "", r"does not fit squeezenet1_0: missing .*; unexpected"),
        (b"cos\nsystem\n(S'true'\ntR.", "", r"cannot be read as a state dict"),
    ]
    for given, digest, message in refused:
        server.files[FILE] = given
        monkeypatch.setitem(MODELS, NAME, replace(own, sha256=digest))
        with pytest.raises(InputError, match=message) as error:
            fetch_weights(NAME)
        assert "Nothing was kept." in str(error.value)
        assert "part-" not in str(error.value)
        assert list(cache.iterdir()) == []


def test_no_download_where_it_is_forbidden_or_there_is_no_address(server, cache, monkeypatch):
    with pytest.raises(InputError, match=rf"downloads are off\. Put {FILE} \(from http"):
        fetch_weights(NAME, offline=True)
    monkeypatch.setenv("NEUROMETAMER_OFFLINE", "1")
    with pytest.raises(InputError, match="downloads are off"):
        load_model(NAME, device="cpu")
    monkeypatch.delenv("NEUROMETAMER_OFFLINE")
    assert server.asked == []
    with pytest.raises(InputError, match=r"could not be downloaded \(HTTP Error 404"):
        fetch_weights("resnet18")
    assert list(cache.iterdir()) == []
    monkeypatch.delenv("NEUROMETAMER_MIRROR")
    with pytest.raises(InputError, match=r"have no address\. Put alexnet_linf_8_robust_training"):
        fetch_weights("alexnet_robust")
    with pytest.raises(InputError, match="hmax has no default weights; give a file"):
        fetch_weights("hmax")


def test_mirrors_stand_for_the_addresses(monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "https://mirror.example/")
    address = address_of(MODELS["swin_base"])
    assert address.startswith("https://mirror.example/timm/swin_base_patch4_window7_224.ms_in1k/")
    assert address_of(MODELS["alexnet"]) == MODELS["alexnet"].weights_url
    monkeypatch.setenv("NEUROMETAMER_MIRROR", "https://lab.example/weights/")
    assert (
        address_of(MODELS["alexnet"])
        == f"https://lab.example/weights/{MODELS['alexnet'].weights_file}"
    )


def test_two_processes_do_not_write_one_file(server, tmp_path):
    import fcntl

    server.files["x.pt"] = b"weights"
    with (tmp_path / "part-x.pt").open("ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(InputError, match=r"x\.pt is being downloaded by another process"):
            download(f"{server.url}/x.pt", tmp_path / "x.pt")
    download(f"{server.url}/x.pt", tmp_path / "x.pt")
    assert (tmp_path / "x.pt").read_bytes() == b"weights"

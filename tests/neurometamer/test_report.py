"""The report page, built from a study folder that these tests write themselves."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pytest
from rsatoolbox.rdm import RDMs

from neurometamer.errors import InputError
from neurometamer.provenance import digest_file
from neurometamer.report.findings import image_type_differences
from neurometamer.report.layer_findings import layer_answer
from neurometamer.report.page import column_texts, draw_figures
from neurometamer.report.read_study import changed_files
from neurometamer.report.references import WORKS, bibtex
from neurometamer.report.rsa import study_of_tables
from neurometamer.report.study import answers, build_report, read_study
from neurometamer.report.study_figures import FIGURES, lead_examples
from neurometamer.report.study_rdms import photograph_categories, photograph_order, sheet_order
from neurometamer.resume import write_record
from neurometamer.rsa.compute import write_rdms
from neurometamer.rsa.image_types.options import INTERVALS, ImageTypeOptions
from neurometamer.rsa.image_types.results import what_follows
from neurometamer.store import read_table, write_json, write_table
from stimuli_gen.stimuli import StimulusSet, read_stimuli, write_stimuli
from stimuli_gen.stored_images import StoredImages

PHOTOS = (
    "astronaut",
    "brick",
    "camera",
    "cat",
    "chelsea_the_long_named_cat",
    "china",
    "clock",
    "coffee",
    "coins",
    "flower",
    "grass",
    "gravel",
    "hubble",
    "motorcycle",
    "retina",
    "rocket",
)
LAYERS = (
    "conv_stem",
    "blocks.0",
    "blocks.1",
    "blocks.2",
    "blocks.3",
    "blocks.4",
    "global_pool",
    "classifier",
    "softmax",
)
ROIS = ("V1", "V2", "V3", "V4", "LO")
SUBJECTS = ("sim01", "sim02", "sim03")
METHOD = (
    "spearman; 95% percentile bootstrap over 16 stimuli, 1000 resamples, same-image pairs dropped"
)
CEILING = (
    "Nili 2014, spearman: each subject's RDM with the mean rank-transformed RDM of the other "
    "subjects (low) or of all "
    "(high), 3 subjects"
)
CLASSES = (
    "Egyptian cat",
    "espresso maker, coffee machine",
    "missile",
    "greenhouse, nursery, glasshouse",
    "wall clock",
)
TAGS = {
    "model": "efficientnet_lite0",
    "weights": "imagenet (efficientnet-lite0-57934424.pth)",
    "data": "simulated",
}


def make_study(
    folder: Path,
    *,
    photos: tuple[str, ...] = PHOTOS,
    trained: bool = True,
    hard: str = "",
    side: int = 64,
    n_rdms: int = 9,
) -> Path:
    """Write a study whose numbers are drawn at random around a plausible pattern.

    `hard` is put into its texts; few network RDMs (`n_rdms`) make drawing quick.
    """
    rng = np.random.default_rng(0)
    weights = TAGS["weights"]
    table = _stimuli(rng, photos, hard)
    write_stimuli(
        StimulusSet(images=_images(rng, len(photos), side), table=table), folder / "stimuli"
    )
    tables = {
        "image_types": _kinds(rng, hard),
        "layer_roi": _layer_roi(rng),
        "encoding": _encoding(rng),
        **_models(rng),
    }
    tables |= {"trends": _trends(), "hierarchy": _hierarchy()}
    tables["recovery"] = pd.DataFrame(
        {
            "what": ["V1 follows Gabor energy", "LO follows objects", f"no area follows AN {hard}"],
            "planted": ["gabor", "object", "r = 0"],
            "found": ["gabor", "gabor", "r = .02"],
            "criterion": ["largest similarity", "largest similarity", "interval holds 0"],
            "pass": [True, False, True],
        }
    )
    for name, one in tables.items():
        tags = {**TAGS, "weights": weights, "trained": trained}
        own = {
            f"network_{key}" if key in one.columns else key: value for key, value in tags.items()
        }
        write_table(folder / "tables" / f"{name}.csv", one.assign(**own))
    transfer = pd.DataFrame(
        {
            "evaluator": ["efficientnet_lite0", "efficientnet_lite1" + hard],
            "kind": ["AN", "AN"],
            "n": [16, 16],
            "says_target": [1.0, 0.0625],
            "target_probability": [0.9949, 0.0081],
            "says_as_photograph": [1.0, 0.125],
        }
    )
    write_table(folder / "tables" / "transfer.csv", transfer)
    _rdms(rng, table, folder, LAYERS[:n_rdms])
    write_json(
        folder / "provenance.json",
        {
            "settings": {
                "study": {"name": "demo"},
                "noise": {"confidence": 0.99, "max_steps": 400},
                "interference": {"confidence": 0.99},
                "rsa": {"measure": "spearman", "n_resamples": 1000},
            },
            "versions": {"neurometamer": "0.1.0", "numpy": "2.4.0", "torch": "2.14"},
            "python": "3.12.1",
            "seed": 0,
            "machine": "Linux x86_64",
            "digests": {"photographs": "0123456789abcdef"},
            "seconds": {"noise": 41.2},
            "model": {
                "name": "efficientnet_lite0",
                "weights": weights,
                "digest": "00ff00ff00ff00ff",
                "trained": trained,
            },
            "brain": {"source": "simulated", "subjects": list(SUBJECTS)},
            "notes": [f"camera: gray, repeated into three channels {hard}"],
        },
    )
    (folder / "study.toml").write_text('[study]\nname = "demo"\n', encoding="utf-8")
    return folder


def _images(rng: np.random.Generator, n: int, side: int) -> np.ndarray:
    """Smooth pictures for photographs, noise for AN, a little noise on the photograph for AI."""
    from scipy.ndimage import gaussian_filter

    soft = gaussian_filter(rng.random((n, 3, side, side)), (0, 0, side / 9, side / 9))
    low, high = soft.min(axis=(1, 2, 3), keepdims=True), soft.max(axis=(1, 2, 3), keepdims=True)
    photo = (soft - low) / (high - low)
    noise = np.clip(0.5 + 0.12 * rng.standard_normal(photo.shape), 0, 1)
    both = np.clip(photo + 0.02 * rng.standard_normal(photo.shape), 0, 1)
    return np.stack([photo, noise, both], axis=1).reshape(-1, 3, side, side).astype(np.float32)


def _stimuli(rng: np.random.Generator, photos: tuple[str, ...], hard: str) -> pd.DataFrame:
    rows = []
    for rank, name in enumerate(photos):
        own, wrong = CLASSES[rank % 5], CLASSES[(rank + 2) % 5] + hard
        rows.append(
            {
                "id": name,
                "kind": "RE",
                "top1_name": own,
                "confidence_png": 0.55 + 0.44 * rng.random(),
            }
        )
        rows.append(
            {
                "id": f"{name}_AN",
                "kind": "AN",
                "target_name": own,
                "top1_name": own,
                "steps": 120 + rank,
                "confidence_float": 0.994,
                "confidence_png": 0.992,
                "success": True,
            }
        )
        failed = rank == 3
        rows.append(
            {
                "id": f"{name}_AI",
                "kind": "AI",
                "target_name": wrong,
                "steps": 30 + rank,
                "success": not failed,
                "top1_name": own if failed else wrong,
                "confidence_float": 0.995,
                "confidence_png": 0.43 if failed else 0.993,
            }
        )
    table = pd.DataFrame(rows)
    return table.assign(
        reference_id=table["id"].str.replace("_A[NI]$", "", regex=True), category="", note=""
    )


def _bounded(rows: list[dict[str, object]]) -> pd.DataFrame:
    table = pd.DataFrame(rows)
    return table.assign(
        ci_low=table["similarity"] - 0.11, ci_high=table["similarity"] + 0.12, method=METHOD, n=16
    )


RISE = (-0.01, 0.02, 0.22, 0.21, 0.32, 0.47, 0.52, 0.79, 0.54)
FLAT = (0.62, 0.19, 0.45, 0.47, 0.46, 0.59, 0.62, 0.75, 0.155)


def _kinds(rng: np.random.Generator, hard: str) -> pd.DataFrame:
    """Differences of more than .15 have an interval without 0 and p = .004, those of blocks.0 p =
    .08; others .3.
    """
    rows: list[dict[str, object]] = []
    for layer, an, ai in zip(LAYERS, RISE, FLAT, strict=True):
        rows += _three("network", "", layer, an, ai)
    single = {
        (s, roi): (0.04 * rng.standard_normal(), 0.28 + 0.04 * rng.standard_normal())
        for s in SUBJECTS
        for roi in ROIS
    }
    for (subject, roi), (an, ai) in single.items():
        rows += _three("brain", subject + hard, roi, an, ai)
    for roi in ROIS:
        an, ai = np.mean([single[subject, roi] for subject in SUBJECTS], axis=0)
        rows += _three("brain", "mean", roi, an, ai)
    table = pd.DataFrame(rows)
    family = np.where(table["system"] == "network", "9 layers", "5 ROIs")
    return table.assign(
        interval="stimuli",
        correction="fdr",
        family=family,
        method=METHOD,
        n=16,
        n_subjects=np.where(table["subject"] == "mean", 3, 1),
    )


def _three(system: str, subject: str, place: str, an: float, ai: float) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for pair, value in (("RE-AN", an), ("RE-AI", ai), ("RE-AI minus RE-AN", ai - an)):
        clear = abs(value) > 0.15 and place != "blocks.0"
        words = (
            "follows perception: RE-AI above RE-AN"
            if value > 0
            else "follows the network's decision: RE-AN above"
        )
        p = 0.08 if place == "blocks.0" else 0.004 if clear else 0.3
        rows.append(
            {
                "system": system,
                "subject": subject,
                "representation": place,
                "pair": pair,
                "value": value,
                "p": p / 2,
                "quantity": "difference" if "minus" in pair else "similarity",
                "ci_low": value - 0.15,
                "ci_high": value + 0.15,
                "p_corrected": p,
                "follows": ""
                if "minus" not in pair
                else ("perception" if value > 0 else "decision")
                if clear
                else "undecided",
                "answer": ""
                if "minus" not in pair
                else words
                if clear
                else "undecided: the interval holds 0",
            }
        )
    return rows


def _trends() -> pd.DataFrame:
    rows = [
        ("RE-AN", "Mann-Kendall", 30, 0.83, 0.0009),
        ("RE-AI", "Mann-Kendall", -4, -0.11, 0.75),
        ("RE-AI minus RE-AN", "paired t over layers", 2.1, 0.7, 0.069),
    ]
    return pd.DataFrame(rows, columns=["pair", "test", "statistic", "effect", "p"]).assign(n=9)


def _models(rng: np.random.Generator) -> dict[str, pd.DataFrame]:
    """The best layer of V1 and LO is above 0 after correction, no other; weighted layers are better
    in LO alone.
    """
    about = {"kind": "RE", "method": "folds of stimuli", "n": 16}
    best, models, differences = [], [], []
    for roi in ROIS:
        for subject in (*SUBJECTS, "mean"):
            score = float(0.2 + 0.05 * rng.standard_normal())
            where = {"roi": roi, "subject": subject}
            ends = {"ci_low": score - 0.1, "ci_high": score + 0.1}
            best.append(
                where
                | ends
                | {
                    "layer": "blocks.2",
                    "score": score,
                    "naive_layer": "blocks.3",
                    "naive_score": score + 0.08,
                }
            )
            for model in ("weighted", "best layer", "average"):
                models.append(
                    where
                    | ends
                    | {
                        "model": model,
                        "score": score,
                        "weights": "blocks.2 .4",
                        "p": 0.01,
                        "q": 0.02 if roi in ("V1", "LO") else 0.2,
                    }
                )
            differences.append(
                where
                | {
                    "contrast": "weighted minus best layer",
                    "difference": 0.1,
                    "ci_low": 0.0,
                    "ci_high": 0.2,
                    "p": 0.01,
                    "q": 0.03 if roi == "LO" else 0.4,
                }
            )
    family = "5 tests of subject mean, model best layer"
    return {
        "best_layer": pd.DataFrame(best).assign(**about),
        "weighted": pd.DataFrame(models).assign(**about, family=family),
        "weighted_difference": pd.DataFrame(differences).assign(
            **about, family="5 tests of subject mean"
        ),
    }


def _hierarchy() -> pd.DataFrame:
    preferred = json.dumps({roi: (2 + k, f"blocks.{k}") for k, roi in enumerate(ROIS)})
    rows = [{"subject": one, "value": 0.9, "p": np.nan, "n_subjects": 1} for one in SUBJECTS]
    rows.append(
        {
            "subject": "combined",
            "value": 0.9,
            "p": 0.0002,
            "n_subjects": 3,
            "ci_low": 0.5,
            "ci_high": 1.3,
        }
    )
    return pd.DataFrame(rows).assign(
        kind="RE",
        order=json.dumps(ROIS),
        preferred_layers=preferred,
        statistic="layers a region",
        left_out="[]",
        reason="",
        method="slope, t over subjects",
    )


def _layer_roi(rng: np.random.Generator) -> pd.DataFrame:
    rows = []
    for j, roi in enumerate(ROIS):
        best = 1.5 * j
        single = {
            s: [
                0.34 - 0.035 * abs(i - best) + 0.03 * rng.standard_normal()
                for i in range(len(LAYERS))
            ]
            for s in SUBJECTS
        }
        for subject, values in {
            **single,
            "mean": np.mean(list(single.values()), axis=0).tolist(),
        }.items():
            for layer, value in zip(LAYERS, values, strict=True):
                rows.append(
                    {
                        "kind": "RE",
                        "subject": subject,
                        "roi": roi,
                        "layer": layer,
                        "similarity": value,
                    }
                )
    table = _bounded(rows).assign(ceiling_low=0.42, ceiling_high=0.56, ceiling=CEILING)
    return table.assign(
        q=np.where(table["similarity"] > 0.3, 0.01, 0.2), family="45 tests of subject mean"
    )


def _encoding(rng: np.random.Generator) -> pd.DataFrame:
    rows = [
        {
            "subject": subject,
            "roi": roi,
            "layer": layer,
            "test": test,
            "n_voxels": 30,
            "n_train": 15,
            "n_test": 16,
            "r": level - 0.02 * i + 0.03 * rng.standard_normal(),
            "alpha": 100.0,
            "scheme": "leave-one-out",
            "method": "Pearson over images a voxel, mean over voxels",
        }
        for subject in SUBJECTS
        for roi in ROIS
        for i, layer in enumerate(LAYERS)
        for test, level in (("RE", 0.35), ("AI", 0.25), ("AN", 0.02))
    ]
    return pd.DataFrame(rows)


def _rdms(
    rng: np.random.Generator, table: pd.DataFrame, folder: Path, layers: tuple[str, ...]
) -> None:
    n = len(table)
    patterns = {"condition": table["id"].tolist()} | {
        name: table[name].tolist() for name in ("reference_id", "kind")
    }
    places = {
        "network": {"system": ["network"] * len(layers), "stage": list(layers)},
        "brain": {
            "system": ["brain"] * 15,
            "subject": list(np.repeat(SUBJECTS, 5)),
            "roi": list(ROIS) * 3,
        },
    }
    for system, descriptors in places.items():
        points = rng.standard_normal((len(descriptors["system"]), n, 12)) + rng.standard_normal(
            (n, 12)
        )
        values = np.stack([1 - np.corrcoef(one)[np.triu_indices(n, 1)] for one in points])
        rdms = RDMs(
            values, "1 - Spearman", rdm_descriptors=descriptors, pattern_descriptors=patterns
        )
        write_rdms(rdms, folder / "rdms" / f"{system}.h5")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A study whose texts hold markup, and its page."""
    folder = make_study(tmp_path_factory.mktemp("study"), photos=PHOTOS[:6], hard="<b>x", n_rdms=2)
    return folder, build_report(folder).read_text(encoding="utf-8")


class Reader(HTMLParser):
    """Collects resources and checks that what opens is closed."""

    VOID = frozenset({"meta", "img", "br", "link", "hr", "input"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def test_page_loads_nothing_and_parses(page: tuple[Path, str]) -> None:
    text = page[1]
    reader = Reader(text)
    assert reader.open == []
    assert not {"script", "link", "iframe", "object", "embed"} & {tag for tag, _ in reader.tags}
    assert all(
        str(one["src"]).startswith("data:image/") and one["alt"] for one in reader.all("img")
    )
    assert "url(" not in text and "@import" not in text and "default-src 'none'" in text
    links = [unquote(str(one["href"])) for one in reader.all("a")]
    files = [link for link in links if not link.startswith(("#", "https://"))]
    assert {
        "tables/image_types.csv",
        "stimuli/stimuli.csv",
        "figures/stimuli.svg",
        "references.bib",
    } <= set(files)
    assert all((page[0] / link).is_file() for link in files)
    ids = [attributes["id"] for _, attributes in reader.tags if "id" in attributes]
    assert len(ids) == len(set(ids)) and {
        link[1:] for link in links if link.startswith("#")
    } <= set(ids)
    assert (
        len(text) < 4e6
    )  # 16 photographs: at most 6.4e6 of pixels, were they incompressible, and 1.2e6 of the rest


def test_text_of_the_data_is_escaped(page: tuple[Path, str]) -> None:
    assert "<b>x" not in page[1]
    assert "efficientnet_lite1&lt;b&gt;x" in page[1] and "no area follows AN &lt;b&gt;x" in page[1]


def test_two_builds_are_identical(page: tuple[Path, str]) -> None:
    folder, text = page
    before = {path.name: path.read_bytes() for path in (folder / "figures").iterdir()}
    assert build_report(folder).read_text(encoding="utf-8") == text
    assert {path.name: path.read_bytes() for path in (folder / "figures").iterdir()} == before
    assert len(before) == 54 and not list(folder.rglob(".part-*"))


def test_a_large_study_has_the_same_page_and_only_the_images_shown_are_read(
    page, monkeypatch
) -> None:
    folder, text = page
    monkeypatch.setattr("stimuli_gen.stimuli.LARGEST_IN_MEMORY", 1000)
    read: list[int] = []
    whole = StoredImages._read
    monkeypatch.setattr(
        StoredImages, "_read", lambda self, rows: read.extend(rows.tolist()) or whole(self, rows)
    )
    study = read_study(folder)
    drawn = draw_figures(study.folder, FIGURES, study, ["stimuli", "places"])
    shown = [one.source for pictures in drawn.values() for one in pictures]
    shown += [one.source for one in lead_examples(study)]
    assert len(shown) == 6 and all(one in text for one in shown)
    n = len(read_table(folder / "stimuli" / "stimuli.csv"))
    assert len(read) == 3 * n + 3  # the sheet, an arrangement of each system, and three examples


def test_what_was_changed_after_the_study_is_told(tmp_path: Path) -> None:
    folder = make_study(tmp_path / "study", photos=PHOTOS[:2], n_rdms=1)
    shutil.rmtree(folder / "rdms")
    for name in (
        "layer_roi",
        "best_layer",
        "weighted",
        "weighted_difference",
        "hierarchy",
        "encoding",
    ):
        (folder / "tables" / f"{name}.csv").unlink()  # fewer figures
    shown = [
        path
        for name in ("tables", "stimuli")
        for path in (folder / name).rglob("*")
        if path.is_file()
    ]
    outputs = {path.relative_to(folder).as_posix(): digest_file(path) for path in shown}
    write_record(
        folder / ".state" / "steps" / "image-types.json",
        {"key": "k", "outputs": {**outputs, "figures/x.svg": "0"}},
    )
    assert changed_files(folder) == {}
    table = folder / "tables" / "image_types.csv"
    table.write_text(table.read_text(encoding="utf-8").replace("0.", "0.9", 1), encoding="utf-8")
    (folder / "tables" / "transfer.csv").unlink()
    assert changed_files(folder) == {
        "tables/image_types.csv": "changed",
        "tables/transfer.csv": "missing",
    }
    note = "tables/image_types.csv is not as its step wrote it; tables/transfer.csv is gone."
    with pytest.warns(
        UserWarning, match=f"^{re.escape(note)} .*Run the study again with the same --out"
    ):
        text = build_report(folder).read_text(encoding="utf-8")
    assert f"<strong>Changed after the study:</strong> {note}" in text
    (folder / ".state" / "steps" / "image-types.json").write_text(
        "{}"
    )  # a damaged record tells nothing of other files
    assert changed_files(folder) == {}


def test_first_screen_says_what_the_tests_say(page: tuple[Path, str]) -> None:
    told = answers(read_study(page[0]))
    network, cortex, layers, order = told[:4]
    # FLAT minus RISE is above .15 at four layers, but corrected p of blocks.0 is .08; below -.15 at
    # softmax; one AI image missed its criterion, so that not all of them fool the network
    image = "an image made to fool the network"
    nearer = f"{image} is still nearer to its photograph than noise with the photograph's name"
    assert (
        network.number
        == f"In 3 of 9 layers {nearer}; in 1 it is the reverse, in 5 it is undecided."
    )
    for words in (
        "(“stimuli”) excludes 0",
        "corrected (fdr) over 9 layers",
        "RE–AN rises (tau .83, p < .001)",
        "RE–AI shows no trend (tau −.11, p = .750)",
        "RE–AN in 7 of 9 layers, RE–AI in 8 of 9",
    ):
        assert words in network.text
    rows = {row[0]: row[2:] for row in network.grid.rows}
    assert rows["blocks.0"] == [".080", "undecided"] and rows["conv_stem"] == [".004", "perception"]
    assert rows["softmax"] == [".004", "decision"] and rows["classifier"] == [".300", "undecided"]
    assert cortex.number.startswith(
        "In 5 of 5 regions of the simulated cortex an image made to fool the network"
    )
    assert (
        "Mean over 3 subjects" in cortex.text
        and "perception in 15, decision in 0 of 15 tests" in cortex.text
    )
    assert layers.title == "Which layer is most like which area of the simulated cortex?"
    assert layers.number.startswith("In 2 of 5 regions a layer resembles the region above chance")
    assert layers.number.endswith(": V1 blocks.2, LO blocks.2.")
    assert "Benjamini–Hochberg over 5 tests of subject mean, model best layer" in layers.text
    assert "above the best one in 1, below in 0 of 5 ROIs" in layers.text
    assert [row[0] for row in layers.grid.rows] == list(ROIS)
    assert {row[1] for row in layers.grid.rows} == {"blocks.2"} and layers.grid.rows[0][
        4
    ].startswith("blocks.3 ")
    assert order.title == "Do later areas of the simulated cortex prefer later layers?"
    assert order.number == "Yes: .90 layers a region, p < .001."
    assert "mean over 3 subjects (interval .50, 1.30; p one-sided, t over subjects)" in order.text
    assert "AN 6 of 6, AI 5 of 6 images; 2 of 3 planted facts" in {answer.number for answer in told}


@pytest.mark.parametrize(
    ("value", "low", "high", "p", "said"),
    [
        (0.4, 0.1, 0.7, 0.01, "perception"),
        (-0.4, -0.7, -0.1, 0.01, "decision"),
        (0.4, 0.1, 0.7, 0.06, "undecided"),
        (0.4, -0.1, 0.7, 0.01, "undecided"),
        (0.4, np.nan, np.nan, 0.01, "perception"),  # interval "none": the p decides
        (0.4, np.nan, np.nan, np.nan, "not tested"),
        (0.4, 0.1, 0.7, np.nan, "not tested"),
    ],
)
def test_numbers_decide_what_a_difference_follows(
    value: float, low: float, high: float, p: float, said: str
) -> None:
    row = {
        "value": value,
        "ci_low": low,
        "ci_high": high,
        "p_corrected": p,
        "quantity": "difference",
    }
    follows, answer = what_follows(row, ImageTypeOptions())
    assert follows == said
    assert said.removesuffix("d") in answer


def test_the_page_holds_answers_tests_and_provenance(page: tuple[Path, str]) -> None:
    text = unescape(page[1])
    assert text.index("In 3 of 9 layers an image") < text.index('id="figure-answer_network"')
    assert text.index('id="figure-answer_network"') < text.index('<section id="stimuli"')
    assert f"Interval “stimuli”: {INTERVALS['stimuli']}" in text
    for words in (
        "✓ pass",
        "✗ fail",
        "Simulated cortex:",
        "max_steps",
        "0123456789abcdef",
        CEILING,
        METHOD,
    ):
        assert words in text
    drawn = sorted(one.stem for one in (page[0] / "figures").glob("*.png"))
    assert drawn == [
        "answer_brain",
        "answer_network",
        "best_layer",
        "encoding",
        "hierarchy",
        "image_types_brain_difference",
        "image_types_brain_similarity",
        "image_types_network_difference",
        "image_types_network_similarity",
        "layer_roi",
        "places_brain",
        "places_network",
        "rdms_brain",
        "rdms_brain_image_types",
        "rdms_network",
        "rdms_network_image_types",
        "stimuli",
        "weighted",
    ]
    for name in drawn:  # the numbers of each figure, beside it and named
        assert len(pd.read_csv(page[0] / "figures" / f"{name}.csv")) > 0
        assert f'<a href="figures/{name}.csv"><code>' in text
    shown = pd.read_csv(page[0] / "figures" / "image_types_network_difference.csv")
    np.testing.assert_allclose(shown["value"], np.array(FLAT) - np.array(RISE), atol=1e-12)


def test_nothing_follows_anything_without_interval_or_p(tmp_path: Path) -> None:
    write_json(tmp_path / "provenance.json", {})
    kinds = _kinds(np.random.default_rng(0), "").assign(
        ci_low=np.nan, ci_high=np.nan, interval="none"
    )
    write_table(
        tmp_path / "tables" / "image_types.csv",
        kinds.assign(answer="not tested: no interval", follows="not tested"),
    )
    study = read_study(tmp_path)
    assert set(image_type_differences(study, "network")["follows"]) == {"not tested"}
    told = answers(study)
    assert told[0].number == "Not tested in 9 layers."
    assert (
        "The differences were not tested" in told[0].text
        and "Above permuted labels" in told[0].text
    )


def test_a_layer_below_chance_resembles_nothing() -> None:
    places = {"subject": ["s", "s"], "roi": ["V1", "LO"]}
    score = {"score": [0.4, -0.3], "ci_low": [0.1, -0.5], "ci_high": [0.7, -0.1]}
    best = pd.DataFrame(
        {
            **places,
            **score,
            "layer": ["a", "b"],
            "naive_layer": ["a", "b"],
            "naive_score": [0.5, -0.2],
        }
    )
    models = pd.DataFrame(
        {**places, **score, "model": "best layer", "p": 0.01, "q": 0.01, "family": "2 ROIs"}
    )
    study = study_of_tables(Path("unused"), {"best_layer": best, "weighted": models}, {})
    answer = layer_answer(study)
    assert answer is not None  # p is two-sided: LO is below chance
    assert answer.number.startswith(
        "In 1 of 2 regions a layer resembles"
    ) and answer.number.endswith(": V1 a.")


def test_photographs_have_one_order_by_category_then_name() -> None:
    table = pd.DataFrame(
        {
            "id": ["b", "a", "c", "d", "b_AN", "a_AN"],
            "kind": ["RE"] * 4 + ["AN"] * 2,
            "reference_id": ["b", "a", "c", "d", "b", "a"],
            "category": ["x", "y", "x", "y", "", ""],
        }
    )
    categories = photograph_categories(table)
    assert photograph_order("dcba", categories) == ["b", "c", "a", "d"]
    assert table["id"].iloc[sheet_order(table)].tolist() == ["b", "b_AN", "c", "a", "a_AN", "d"]
    assert (
        photograph_categories(table.assign(category=["k", "l", "m", "n", "", ""])) == {}
    )  # each its own: no groups


def test_other_networks_are_asked_only_where_the_table_says_so(
    page: tuple[Path, str], tmp_path: Path
) -> None:
    text = unescape(page[1])
    part = text[text.index('<section id="transfer"') : text.index('<section id="image-types"')]
    assert text.index('<section id="stimuli"') < text.index('<section id="transfer"')
    cells = re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", part)
    assert cells[-5:] == ["efficientnet_lite1<b>x", "AN", "1 of 16", ".008", "2 of 16"]
    assert cells[-10:-5] == [
        "efficientnet_lite0 (made for it)",
        "AN",
        "16 of 16",
        ".995",
        "16 of 16",
    ]
    write_json(tmp_path / "provenance.json", {})
    header = pd.DataFrame(
        columns=[
            "evaluator",
            "kind",
            "n",
            "says_target",
            "target_probability",
            "says_as_photograph",
        ]
    )
    write_table(tmp_path / "tables" / "transfer.csv", header)
    empty = build_report(tmp_path).read_text(encoding="utf-8")
    assert "Do other networks" not in empty and "Other networks" not in empty


def test_training_on_all_photographs_is_called_no_clean_test(
    page: tuple[Path, str], tmp_path: Path
) -> None:
    assert "no clean test for AI" not in page[1]
    write_json(tmp_path / "provenance.json", {})
    write_table(
        tmp_path / "tables" / "encoding.csv",
        _encoding(np.random.default_rng(0)).assign(scheme="all"),
    )
    text = build_report(tmp_path).read_text(encoding="utf-8")
    assert (
        text.count("Scheme “all” is no clean test for AI") == 2
    )  # beside the answer and beside the figure


def test_untrained_network_is_stamped_on_page_tables_and_figures(tmp_path: Path) -> None:
    folder = make_study(tmp_path, photos=PHOTOS[:4], trained=False, side=8)
    for path in (folder / "rdms").iterdir():
        path.unlink()  # their stamps are those of the other figures; drawing them takes longest
    study = read_study(folder)
    assert study.network_stamp == "untrained network (random weights)"
    assert study.brain_stamp == "simulated cortex · untrained network (random weights)"
    text = build_report(folder).read_text(encoding="utf-8")
    assert (
        "Untrained network:" in text
        and "Voxel encoding · simulated cortex · untrained network" in text
    )
    captions = re.findall(r"<figure id=.*?<figcaption>(.*?)</figcaption>", text, flags=re.DOTALL)
    assert len(captions) == 12 and all(
        "ntrained network (random weights)" in caption for caption in captions
    )


@pytest.mark.parametrize(
    "settings", [{}, {"brain": None, "notes": "one note", "model": {}, "settings": {"noise": 3}}]
)
def test_a_study_with_little_in_it_still_has_a_page(
    tmp_path: Path, settings: dict[str, object]
) -> None:
    write_json(tmp_path / "provenance.json", settings)
    text = build_report(tmp_path).read_text(encoding="utf-8")
    Reader(text)
    sections = re.findall('<section id="(.*?)"', text)
    assert sections == ["answer", "settings", "real", "methods", "references"]
    assert "<img" not in text and "Simulated cortex" not in text and "Nothing was compared" in text


def test_network_only_study_without_interference(tmp_path: Path) -> None:
    folder = make_study(tmp_path, photos=PHOTOS[:4], side=8)
    for path in (*(folder / "tables").iterdir(), folder / "rdms" / "brain.h5"):
        path.unlink()
    only_stimuli(folder, ["RE", "AN"])
    change_provenance(folder, brain={"source": "none", "subjects": []})
    text = unescape(build_report(folder).read_text(encoding="utf-8"))
    assert "<h1>Which images does efficientnet_lite0 treat as the same?</h1>" in text
    for word in (
        "cortex",
        "AI images",
        "adversarial interference",
        "Measured BOLD",
        "Voxel",
        "planted",
        "ROI",
        "Zhang et al. (2021), with",
        "Which images are near which",
    ):
        assert word not in text, word
    assert "16 photographs" not in text and "4 photographs" in text


def only_stimuli(folder: Path, kinds: list[str]) -> None:
    """Keep the images of some kinds."""
    stimuli = read_stimuli(folder / "stimuli")
    ids = stimuli.table["id"][stimuli.table["kind"].isin(kinds)].tolist()
    kept = stimuli.select(ids=ids)
    kept = StimulusSet(images=np.asarray(kept.images), table=kept.table)
    shutil.rmtree(folder / "stimuli")
    write_stimuli(kept, folder / "stimuli")


def change_provenance(folder: Path, **parts: object) -> None:
    told = json.loads((folder / "provenance.json").read_text())
    write_json(folder / "provenance.json", {**told, **parts})


def one_subject(folder: Path) -> Path:
    """A measured study of one subject and one region: what somebody's first data give."""
    make_study(folder, photos=PHOTOS[:4], side=32, n_rdms=2)
    for name in ("recovery", "trends", "hierarchy", "transfer"):
        (folder / "tables" / f"{name}.csv").unlink()
    (folder / "rdms" / "brain.h5").unlink()
    for path in (folder / "tables").iterdir():
        table = pd.read_csv(path, keep_default_na=False, na_values=[""])
        table = table.assign(data="measured").replace({"subject": {SUBJECTS[0]: "p07"}})
        # a mean over one subject is what the analyses write as well
        table = table[table["subject"].isin(["p07", "mean"]) | table["subject"].isna()]
        place = "roi" if "roi" in table else "representation"
        table = table[(table[place] == "V1") | table["subject"].isna()]
        if "family" in table:
            table["family"] = (
                table["family"].replace({"5 ROIs": "1 ROI"}).str.replace("5 tests", "1 test")
            )
        write_table(path, table)
    regions = {
        "subject": "p07",
        "roi": "V1",
        "n_mask": 70,
        "n_voxels": 60,
        "n_selected": 40,
        "reliability": 0.41,
        "reliability_selected": 0.63,
        "method": "odd and even",
        "reason": "",
    }
    write_table(folder / "tables" / "regions.csv", pd.DataFrame([regions]))
    settings = {
        "study": {"seed": 0},
        "images": {"ready": "shown"},
        "noise": {"confidence": 0.99},
        "interference": {"confidence": 0.99},
        "metamers": {"sets": []},
        "transfer": {"models": []},
        "glm": {"hrf_model": "glover", "estimator": "LSS"},
        "rsa": {"n_resamples": 1000},
        "brain": {
            "source": "bold",
            "simulation": {"voxels_per_roi": 160},
            "subjects": [{"id": "p07", "bold": ["a.nii"]}],
        },
    }
    change_provenance(
        folder, settings=settings, brain={"source": "bold", "subjects": ["p07"], "simulated": False}
    )
    return folder


def test_a_study_from_bids_shows_its_own_settings_and_where_drifts_come_from(
    tmp_path: Path,
) -> None:
    folder = one_subject(tmp_path)
    settings = {
        "glm": {"high_pass": 0.01, "strategy": ["compcor"]},
        "brain": {
            "source": "bids",
            "simulation": {"voxels_per_roi": 160},
            "dataset": "lab/bids",
            "space": "T1w",
            "rois": {"V1": "V1_{subject}.nii"},
            "subjects": ["07"],
        },
    }
    record = {"source": "bids", "subjects": ["sub-07"], "simulated": False, "drifts": ["confounds"]}
    change_provenance(folder, settings=settings, brain=record)
    text = unescape(build_report(folder).read_text(encoding="utf-8"))
    for word in ("lab/bids", "T1w", "V1_{subject}.nii"):
        assert word in text, word
    assert "voxels_per_roi" not in text
    methods = (folder / "methods.txt").read_text(encoding="utf-8")
    assert "high_pass = 0.01 or the cosines of fMRIPrep where the confounds hold them" in methods


def test_one_measured_subject_has_no_simulation_no_means_and_no_plurals(tmp_path: Path) -> None:
    folder = one_subject(tmp_path)
    text = unescape(build_report(folder).read_text(encoding="utf-8"))
    for word in (
        "imulat",
        "planted",
        "1 ROIs",
        "1 regions",
        "1 tests",
        "1 subjects",
        "mean over subjects",
        "Mean over 1",
        "voxels_per_roi",
        "noise.confidence",
        "metamers.",
        "subject(s)",
        "Do other networks",
    ):
        assert word not in text.replace("What is simulated and what is real", "").replace(
            "Simulated or real", ""
        ), word
    assert (
        "In V1 of cortex an image made to fool the network is still nearer to its photograph"
        in text
    )
    assert "brain.subjects" in text and "glm.hrf_model" in text
    part = text[text.index('<section id="regions"') : text.index('<section id="layer-roi"')]
    cells = re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", part)
    assert (
        cells[-7:] == ["p07", "V1", "70", "60", "40", ".41", ".63"]
        and 'href="tables/regions.csv"' in part
    )
    methods = (folder / "methods.txt").read_text(encoding="utf-8")
    for words in (
        "4 photographs",
        "given as they were shown",
        "BOLD of 1 subject",
        "V1 40 of 60 voxels",
        METHOD,
        "estimator = LSS",
        "neurometamer 0.1.0",
        "Random seed: 0",
    ):
        assert words in methods
        assert words in text
    entries = bibtex_entries((folder / "references.bib").read_text(encoding="utf-8"))
    assert {"neurometamer", "zhang2021", "kriegeskorte2008", "mumford2012", "tarhan2020"} <= set(
        entries
    )
    assert not {"feather2023", "mann1945", "holm1979"} & set(entries)
    assert entries["mumford2012"]["author"].startswith("Mumford, J. A. and Turner, B. O.")


def bibtex_entries(text: str) -> dict[str, dict[str, str]]:
    """Read BibTeX as written here, checking that every brace is closed."""
    entries = {}
    for entry in text.strip().split("\n\n"):
        assert entry.count("{") == entry.count("}") and entry.endswith("\n}")
        key = re.match(r"@[a-z]+\{([a-z0-9]+),", entry)
        assert key
        entries[key[1]] = dict(re.findall(r"^  ([a-z]+) = \{(.*)\},$", entry, flags=re.MULTILINE))
    return entries


def test_all_works_have_what_a_bibliography_needs() -> None:
    entries = bibtex_entries(bibtex(WORKS, "1.2"))
    assert (
        set(entries) == {"neurometamer", *WORKS}
        and entries["neurometamer"]["note"] == "Version 1.2"
    )
    for key in WORKS:
        assert {"author", "title"} < set(entries[key]) and {"doi", "url"} & set(entries[key])
        assert "year" in entries[key] or key == "nilearn"
    assert entries["zhang2021"]["author"].split(" and ")[1] == "Duan, X.-H."


def test_only_similarity_is_told_where_one_kind_was_shown(tmp_path: Path) -> None:
    folder = make_study(tmp_path, photos=PHOTOS[:4], side=8, n_rdms=2)
    kinds = pd.read_csv(
        folder / "tables" / "image_types.csv", keep_default_na=False, na_values=["", "nan"]
    )
    write_table(folder / "tables" / "image_types.csv", kinds[kinds["pair"] == "RE-AI"])
    only_stimuli(folder, ["RE", "AI"])
    told = answers(read_study(folder))[0]
    assert (
        told.number
        == "In 8 of 9 layers an image made to fool the network is near its photograph, beyond "
        "chance."
    )
    assert "permuted labels" in told.text and "corrected (fdr) over 9 layers" in told.text


@pytest.mark.slow
def test_large_studies_stay_small_files(tmp_path: Path) -> None:
    photos = tuple(f"photograph_{i:02d}" for i in range(40))
    folder = make_study(tmp_path, photos=photos, side=224)
    assert build_report(folder).stat().st_size < 6e6


@pytest.mark.parametrize("width", [390, 1200])
def test_no_page_scrolls_sideways(page: tuple[Path, str], chromium, width: int) -> None:
    screen = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 500}
    chromium.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    chromium.get((page[0] / "report.html").as_uri())
    chromium.execute_script(
        "document.querySelectorAll('details').forEach(part => { part.open = true })"
    )
    assert chromium.execute_script("return window.innerWidth") == width
    assert chromium.execute_script("return document.documentElement.scrollWidth") <= width
    wide = """return [...document.querySelectorAll('body *')]
              .filter(part => !part.closest('.scroll, pre')
                      && part.getBoundingClientRect().right > innerWidth + 1)
              .map(part => part.outerHTML.slice(0, 80))"""
    assert chromium.execute_script(wide) == []


def test_numbers_have_one_format() -> None:
    assert column_texts("r", pd.Series([0.5321, -0.052, 1.0, 0.00123, np.nan])) == [
        ".53",
        "−.05",
        "1.00",
        ".0012",
        "–",
    ]
    assert column_texts("p", pd.Series([0.0123, 0.00001, 1.0])) == [".012", "< .001", "1.000"]
    assert column_texts("n", pd.Series([16, -3])) == ["16", "−3"]
    assert column_texts("note", pd.Series([None, True, "text", 0.25])) == [
        "–",
        "yes",
        "text",
        ".25",
    ]


def _not_json(folder: Path) -> None:
    (folder / "provenance.json").write_text("{", encoding="utf-8")


def _no_columns(folder: Path) -> None:
    write_json(folder / "provenance.json", {})
    write_table(folder / "tables" / "encoding.csv", pd.DataFrame({"roi": ["V1"], "r": [0.1]}))


def _not_rdms(folder: Path) -> None:
    write_json(folder / "provenance.json", {})
    (folder / "rdms").mkdir()
    (folder / "rdms" / "brain.h5").write_bytes(b"no")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: None, "is not a study: it has neither provenance.json nor study.toml"),
        (lambda folder: folder.rmdir(), "is not a folder"),
        (_not_json, "is not a JSON file"),
        (_no_columns, "lacks the column.s. subject, layer, test"),
        (_not_rdms, "brain.h5"),
    ],
)
def test_bad_folders_say_what_to_do(
    tmp_path: Path, spoil: Callable[[Path], None], message: str
) -> None:
    folder = tmp_path / "study"
    folder.mkdir()
    spoil(folder)
    with pytest.raises(InputError, match=message):
        build_report(folder)

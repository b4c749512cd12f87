"""A 16-way recognition experiment as a folder of files for any browser.

It needs neither a server nor a network.

The trial is that of Feather et al. (2023): fixation, image, mask, then one of 16 answers. Each
participant sees every image in exactly one condition. The published folder (``page/``) holds no
category, id or condition of any image of the main part; they are in ``key.csv`` beside it, and
`neurometamer.behavior.trials.join_key` puts them into the answers that come back.

References
----------
Feather, J., Leclerc, G., Mądry, A. & McDermott, J. H. (2023). Model metamers reveal divergent
invariances between biological and artificial neural networks. Nature Neuroscience 26:2017-2034.
Methods, "Behavioral experiments".
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image, ImageOps

from neurometamer.arguments import checked
from neurometamer.behavior.trials import KEY_COLUMNS, NATURAL, read_text
from neurometamer.errors import InputError, duplicates, name_ids, unknown_name
from neurometamer.provenance import digest, generator, provenance
from neurometamer.resume import writes_into
from neurometamer.store import file_name, read_table, write_json, write_table, write_text
from neurometamer.summaries import short_repr
from stimuli_gen.categories import CATEGORIES
from stimuli_gen.controls import phase_scramble
from stimuli_gen.conversion import cannot_use, open_photograph
from stimuli_gen.stored_images import from_8bit, write_png

Files = Sequence[str | Path]
Timing = tuple[float, float, float]
Progress = Callable[[int, int], None]
PAGE_FILES = ("index.html", "storage.js", "app.js", "style.css")
_TEXT = ("id", "reference_id", "category", "condition", "stage", "model", "kind")
_CONSENT = """You will see images that flash for a moment, and choose what each of them showed. \
There is nothing else to do, and you can stop at any time by closing the page.

Your answers, their times and the name of your browser are recorded under your participant code, \
and nothing else."""


LEAST = {
    "screening": 0,
    "catch": 0,
    "seed": 0,
    "block_length": 1,
    "n_masks": 1,
    "post_tries": 1,
}
"""Smallest value of a setting."""


@short_repr
@dataclass(frozen=True, kw_only=True)
class PageSettings:
    """Settings of an experiment page; the defaults are those of Feather et al. where they say.

    Parameters
    ----------
    title : str
        Title of the page.
    consent : str
        Text of the first page; an empty line begins a new paragraph.
    post_url : str
        Where the page sends the CSV at the end (HTTP POST, ``text/plain``); empty: it is saved as a
        file. The server confirms by replying with status 200 and the CSV as it stored it, byte for
        byte. Any other reply counts as not stored: the browser keeps the answers, and they can be
        sent again or saved as a file. A server of another origin must answer with
        ``Access-Control-Allow-Origin``.
    seed : int
        Seed of file names, masks, which photographs go where, and (with the participant code) of
        each participant's order.
    fixation_ms, image_ms, mask_ms : float
        Planned durations; each lasts a whole number of frames nearest to it.
    slow_ms : tuple of float, optional
        Fixation, image and mask of the first half of practice; None: as the others.
    practice, screening, catch : int
        Photographs with feedback; without, before the main part; and between its images.
    pass_mark : int
        Correct answers in screening that are needed to go on.
    block_length : int
        Trials between breaks.
    mask : {"phase", "noise"}
        See `MASKS`.
    n_masks : int
        Different masks; each trial takes one by seed.
    missing : {"error", "photograph"}
        For an image that lacks a condition: refuse, or show its photograph (a row of kind ``RE``)
        in that place, as Feather et al. did. The key then says the photograph's condition.
    post_tries : int
        Attempts to send before the participant is asked.
    post_wait_ms : float
        Wait before the second attempt; it doubles with each.

    Raises
    ------
    InputError
        When a value is out of range.

    Examples
    --------
    >>> from neurometamer import InputError
    >>> from neurometamer.behavior import PageSettings
    >>> settings = PageSettings(image_ms=200, slow_ms=None, catch=8)
    >>> settings.image_ms, settings.mask_ms, settings.practice
    (200, 300, 16)
    >>> try:
    ...     PageSettings(pass_mark=20)
    ... except InputError as error:
    ...     print(error)
    the pass mark is 0 to the 12 screening images, not 20.
    """

    title: str = "What did you see?"
    consent: str = _CONSENT
    post_url: str = ""
    seed: int = 0
    fixation_ms: float = 300
    image_ms: float = 300
    mask_ms: float = 300
    slow_ms: Timing | None = (500, 400, 400)
    practice: int = 16
    screening: int = 12
    catch: int = 16
    pass_mark: int = 7
    block_length: int = 100
    mask: str = "phase"
    n_masks: int = 16
    missing: str = "error"
    post_tries: int = 5
    post_wait_ms: float = 1000

    def __post_init__(self) -> None:
        if self.mask not in MASKS:
            raise unknown_name("mask", self.mask, MASKS)
        if self.missing not in ("error", "photograph"):
            raise unknown_name("rule for missing conditions", self.missing, ("error", "photograph"))
        if self.practice < 1:
            raise InputError(
                f"at least 1 practice image is needed, not {self.practice}: people must see the "
                "task first."
            )
        for name, least in LEAST.items():
            value = getattr(self, name)
            if value < least:
                raise InputError(f"{name} is {value}; give at least {least}.")
        if not 0 <= self.pass_mark <= self.screening:
            raise InputError(
                f"the pass mark is 0 to the {self.screening} screening images, not "
                f"{self.pass_mark}."
            )
        times = (self.fixation_ms, self.image_ms, self.mask_ms, *(self.slow_ms or ()))
        if min(times) <= 0 or not np.isfinite(times).all() or len(times) not in (3, 6):
            raise InputError(
                "fixation, image and mask last a time above 0 ms each (slow_ms: three of them), "
                "not "
                f"{times}."
            )


def phase_masks(
    images: Callable[[int], np.ndarray], n_images: int, random: np.random.Generator
) -> np.ndarray:
    """Scramble the phases of one image that is drawn at random.

    The mask has the colors and frequencies of the image, and shows nothing.

    Parameters
    ----------
    images : callable
        Gives image number i, (3, height, width) float32 in [0, 1].
    n_images : int
        Number of images.
    random : numpy.random.Generator
        Random generator of this mask.

    Returns
    -------
    ndarray
        (3, height, width) float64 in [0, 1].
    """
    chosen = random.integers(n_images)
    image = images(int(chosen))
    scrambled = phase_scramble(image, random, 1.0)
    return scrambled.clip(0, 1)


def noise_masks(
    images: Callable[[int], np.ndarray], n_images: int, random: np.random.Generator
) -> np.ndarray:
    """Draw every pixel and channel uniformly.

    Parameters
    ----------
    images : callable
        Gives image number i; only its shape is used.
    n_images : int
        Not used.
    random : numpy.random.Generator
        Random generator of this mask.

    Returns
    -------
    ndarray
        (3, height, width) float64 in [0, 1].
    """
    shape = images(0).shape
    return random.uniform(size=shape)


MASKS: Mapping[
    str, Callable[[Callable[[int], np.ndarray], int, np.random.Generator], np.ndarray]
] = {
    "phase": phase_masks,
    "noise": noise_masks,
}
"""Name of a kind of mask to the function that makes one."""


# ------------------------------------------------------------------------------------------- images


class Photograph:
    """Images that are read one at a time, in the pixels that are shown.

    Parameters
    ----------
    files : sequence of path-like
        Their files.
    size : tuple of int
        Width and height to show; other images are scaled and cut around their center.
    """

    def __init__(self, files: Sequence[str | Path], size: tuple[int, int]) -> None:
        self.files = files
        self.size = size

    def __call__(self, row: int) -> np.ndarray:
        """Read image number `row`: (3, height, width) float32 in [0, 1]."""
        file = self.files[row]
        shown = _open(file)
        if shown.size != self.size:
            method = Image.Resampling.BICUBIC
            shown = ImageOps.fit(shown, self.size, method)
        levels = np.asarray(shown)
        pixels = from_8bit(levels)
        return pixels.transpose(2, 0, 1)


def _open(path: str | Path) -> Image.Image:
    """Decode an image file: upright, RGB, 8 bits, as `stimuli_gen.load_photographs` reads it."""
    try:
        return open_photograph(Path(path))[0]
    except InputError as error:
        cure = "write the stimuli again, mend the table, or save the image as an 8-bit PNG."
        raise cannot_use(Path(path), error, cure) from error


def read_sources(sources: Sequence[str | Path], *, conditions: bool) -> pd.DataFrame:
    """Read the tables of images.

    Parameters
    ----------
    sources : sequence of path-like
        Folders with ``stimuli.csv`` and ``png/``, or CSV files with ``file``, ``id``, ``category``.
    conditions : bool
        Whether every image must have a condition.

    Returns
    -------
    pandas.DataFrame
        Text columns file, id, reference_id, category, condition, stage, model, kind.

    Raises
    ------
    InputError
        When there is nothing, a file or column is missing, a category is unknown, or an id has a
        condition twice.
    """
    what = "stimuli" if conditions else "photographs"
    if not sources:
        raise InputError(f"no {what} given; use --{what} FOLDER or --{what} TABLE.csv.")
    tables = [_read_source(Path(source), conditions) for source in sources]
    table = pd.concat(tables, ignore_index=True)
    if table.empty:
        raise InputError(f"there is no image in {name_ids(sources)}; give others.")
    _check_names(table, what)
    if missing := [path for path in table["file"] if not Path(path).is_file()]:
        raise InputError(
            f"image files do not exist: {name_ids(missing)}; write the stimuli again, or mend the "
            "table."
        )
    return table


def _read_source(source: Path, conditions: bool) -> pd.DataFrame:
    is_folder = source.is_dir()
    path = source / "stimuli.csv" if is_folder else source
    if is_folder and not path.is_file():
        raise InputError(
            f"{source} holds no stimuli.csv; give a folder written by 'stimuli', or a CSV (file, "
            "id, …)."
        )
    needed = ["id", "category"]
    if not is_folder:
        needed.insert(0, "file")
        needed += ["condition"] * conditions
    read_table(path, needed)
    separator = "\t" if path.suffix == ".tsv" else ","
    table = pd.read_csv(path, dtype=str, keep_default_na=False, sep=separator)
    for name in _TEXT:
        table[name] = table.get(name, "")
        table[name] = table[name].str.strip()
    if is_folder:
        table["file"] = [f"png/{file_name(name)}.png" for name in table["id"]]
        # name conditions after kind, model and stage where the table has none
        is_photograph = table["kind"] == "RE"
        words = table["kind"] + " " + table["model"] + " " + table["stage"]
        named = words.str.split().str.join(" ").mask(is_photograph, NATURAL)
        table["condition"] = table["condition"].where(table["condition"] != "", named)
        is_nameless = is_photograph & (table["stage"] == "")
        table["stage"] = table["stage"].mask(is_nameless, NATURAL)
    table["file"] = [str(path.parent / file) for file in table["file"]]
    table["reference_id"] = table["reference_id"].where(table["reference_id"] != "", table["id"])
    is_bare = table["condition"] == ""
    if conditions and is_bare.any():
        bare = table.loc[is_bare, "id"]
        raise InputError(f"{path}: no condition for {name_ids(bare)}; fill the column condition.")
    return table[["file", *_TEXT]]


def _check_names(table: pd.DataFrame, what: str) -> None:
    n_nameless = int((table["id"] == "").sum())
    if n_nameless:
        raise InputError(f"{n_nameless} of the {what} have no id; fill the column id.")
    for name, category in zip(table["id"], table["category"], strict=True):
        if category == "":
            raise InputError(f"'{name}' of the {what} has no category; fill the column category.")
        if category not in CATEGORIES:
            raise unknown_name(f"category of {name!r}", category, CATEGORIES)
    for column, words in (("id", "id"), ("reference_id", "image (reference_id)")):
        again = duplicates(table[column] + " in condition '" + table["condition"] + "'")
        if again:
            raise InputError(
                f"two images are the same {words}: {name_ids(again)}; give each its own id or "
                "condition."
            )
    n_categories = table.groupby("reference_id", sort=False)["category"].nunique()
    torn = n_categories.index[n_categories > 1]
    if len(torn):
        raise InputError(
            f"versions of one image have different categories: {name_ids(torn)}; give all versions "
            "the category of the image."
        )


def fill_missing(table: pd.DataFrame, rule: str) -> pd.DataFrame:
    """Check that every image is there in every condition.

    Put its photograph where an image is missing, if the settings say so.

    Parameters
    ----------
    table : pandas.DataFrame
        From `read_sources`.
    rule : {"error", "photograph"}
        What to do about missing ones.

    Returns
    -------
    pandas.DataFrame
        With the column ``cell``: the condition in whose place the row is shown.

    Raises
    ------
    InputError
        When a condition is missing and cannot be filled.
    """
    references = table["reference_id"]
    conditions = table["condition"]
    there = set(zip(references, conditions, strict=True))
    every = itertools.product(references.unique(), conditions.unique())
    missing = [place for place in every if place not in there]
    filled = table.assign(cell=conditions)
    if not missing:
        return filled
    if rule == "error":
        names = name_ids(f"{image} in '{condition}'" for image, condition in missing)
        raise InputError(
            f"a condition is missing for an image: {names}; add the images, take the others out, "
            "or show the photograph instead (missing='photograph', --incomplete photograph)."
        )
    incomplete = [image for image, _ in missing]
    cells = [condition for _, condition in missing]
    is_natural = filled["kind"] == "RE"
    natural = filled[is_natural].drop_duplicates("reference_id")
    natural = natural.set_index("reference_id", drop=False)
    bare = sorted(set(incomplete) - set(natural.index))
    if bare:
        raise InputError(
            f"no photograph (kind RE) among the stimuli to show instead, of {name_ids(bare)}; add "
            "it."
        )
    extra = natural.loc[incomplete].assign(cell=cells)
    return pd.concat([filled, extra], ignore_index=True)


def check_photographs(table: pd.DataFrame) -> tuple[int, int]:
    """Decode every image of the main part and check that all have one size.

    Parameters
    ----------
    table : pandas.DataFrame
        From `read_sources`.

    Returns
    -------
    tuple of int
        Width and height, pixels.

    Raises
    ------
    InputError
        When an image cannot be decoded or sizes differ.
    """
    sizes: dict[tuple[int, int], list[str]] = {}
    for name, path in zip(table["id"], table["file"], strict=True):
        size = _open(path).size
        of_size = sizes.setdefault(size, [])
        of_size.append(name)
    if len(sizes) > 1:
        parts = []
        for (width, height), ids in sizes.items():
            names = name_ids(ids, 2)
            parts.append(f"{width} x {height}: {names}")
        raise InputError(
            f"stimuli differ in size ({'; '.join(parts)}); a mask must cover them all: make them "
            "one size."
        )
    return next(iter(sizes))


def choose_photographs(
    table: pd.DataFrame, main: pd.DataFrame, numbers: Mapping[str, int], seed: int
) -> pd.DataFrame:
    """Share photographs out over practice, screening and catch trials.

    The categories are as even as they can be.

    Parameters
    ----------
    table : pandas.DataFrame
        From `read_sources`; of stimulus folders only kind ``RE`` is taken.
    main : pandas.DataFrame
        Images of the main part, which must be others.
    numbers : mapping of str to int
        Phase to number of photographs.
    seed : int
        Seed of the choice.

    Returns
    -------
    pandas.DataFrame
        The chosen rows with the column ``phase``, condition and stage ``natural``.

    Raises
    ------
    InputError
        When there are too few, or one is an image of the main part.
    """
    table = table[table["kind"].isin(["", "RE"])]
    seen = sorted(set(table["reference_id"]) & set(main["reference_id"]))
    if seen:
        raise InputError(
            f"photographs are images of the main part, too: {name_ids(seen)}; give others."
        )
    n_needed = sum(numbers.values())
    if len(table) < n_needed:
        parts = ", ".join(f"{number} {phase}" for phase, number in numbers.items())
        raise InputError(
            f"{n_needed} photographs are needed ({parts}), {len(table)} are there; give more, or "
            "ask for fewer."
        )
    order = table.iloc[generator(seed, "photographs").permutation(len(table))]
    turn = order.groupby("category").cumcount().to_numpy()
    chosen = order.iloc[np.argsort(turn, kind="stable")[:n_needed]]
    named = chosen.assign(
        phase=np.repeat(list(numbers), list(numbers.values())),
        condition=NATURAL,
        cell=NATURAL,
        stage=NATURAL,
        model="",
    )
    return named.reset_index(drop=True)


# ----------------------------------------------------------------------------- who sees which image


def page_hash(text: str) -> int:
    """Hash ASCII text to 32 bits as the page does (FNV-1a).

    Parameters
    ----------
    text : str
        ASCII.

    Returns
    -------
    int
        0 to 2³² − 1.
    """
    value = 2166136261
    for byte in text.encode("ascii"):
        value = (value ^ byte) * 16777619 % 2**32
    return value


def list_of(participant: str, n_lists: int) -> int:
    """Choose the list of a participant from the code.

    It is the number at the end of the code, or else a hash of the code, modulo the number of lists.

    Parameters
    ----------
    participant : str
        Letters, digits, ``-`` and ``_``.
    n_lists : int
        As many as conditions.

    Returns
    -------
    int
        0 to ``n_lists - 1``. Participants numbered without gaps fill the lists evenly.

    Examples
    --------
    >>> list_of("P012", 5), list_of("13", 5)
    (2, 3)
    """
    start = participant.rstrip("0123456789")
    digits = participant.removeprefix(start)
    ending = digits[-9:]
    number = int(ending) if ending else page_hash(participant)
    return number % n_lists


def assign_conditions(images: pd.DataFrame, conditions: Sequence[str], seed: int) -> np.ndarray:
    """Give each image one condition per list, as in a Latin square.

    Over the lists every image is in every condition once.

    Parameters
    ----------
    images : pandas.DataFrame
        One row an image: ``reference_id``, ``category``.
    conditions : sequence of str
        Their names.
    seed : int
        Seed of the assignment.

    Returns
    -------
    ndarray
        (n_images, n_conditions) int; column l holds the position in `conditions` that each image
        has in list l. In every list the conditions differ by at most one image, over all and within
        each category by at most one.
    """
    n_images = len(images)
    n_conditions = len(conditions)
    random = generator(seed, "assignment")
    order = random.permutation(n_images)
    names = sorted(set(images["category"]))
    turn = {name: number for number, name in enumerate(random.permutation(names))}
    turns = images["category"].map(turn).to_numpy()
    by_turn = np.argsort(turns[order], kind="stable")
    # the count goes on from category to category: even in each and over all
    count = np.arange(n_images) + random.integers(n_conditions)
    first = np.empty(n_images, dtype=int)
    first[order[by_turn]] = count % n_conditions
    lists = first[:, None] + np.arange(n_conditions)
    return lists % n_conditions


# ----------------------------------------------------------------------------------------- the page


@writes_into("out")
@checked
def write_experiment_page(
    stimuli: Files,
    photographs: Files,
    out: str | Path,
    *,
    progress: Progress | None = None,
    **settings: Any,
) -> pd.DataFrame:
    """Write a folder that runs a 16-way recognition experiment in the browser, and the key to it.

    Parameters
    ----------
    stimuli : sequence of path-like
        Images of the main part: folders written by `neurometamer stimuli`, or CSV files with the
        columns ``file``, ``id``, ``category`` (one of `stimuli_gen.categories.CATEGORIES`),
        ``condition`` and optionally ``reference_id`` (which image this is a version of; else the
        id), ``stage``, ``model``. All of one size. In folders the condition is kind, model and
        stage, where there is no column ``condition``.
    photographs : sequence of path-like
        The same without conditions: photographs of other images, for practice, screening and catch
        trials. They are cut to the size of the stimuli.
    out : path-like
        Folder that gets ``page/`` (to be published), ``key.csv`` (not to be published) and
        ``provenance.json``.
    progress : callable, optional
        Called as ``progress(images_written, images)``.
    **settings : object
        See `PageSettings`.

    Returns
    -------
    pandas.DataFrame
        The key: ``code`` (file name in the page), phase, id, reference_id, truth, condition, stage,
        model, file, page_version.

    Raises
    ------
    InputError
        When a category is unknown, an image is missing or unreadable, an id has a condition twice,
        an image lacks a condition, sizes differ, there are too few photographs, or `out` holds
        another experiment.

    Notes
    -----
    Practice and screening need the truth in the page. It is there as a hash that hides it from a
    glance, not from somebody who looks for it.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import pandas as pd
    >>> from PIL import Image
    >>> from neurometamer.behavior import write_experiment_page
    >>> images = pd.DataFrame({"id": ["rex", "tom", "ben"], "category": ["dog", "cat", "clock"]})
    >>> images = images.assign(file=images["id"] + ".png", condition="late")
    >>> few = {"practice": 1, "screening": 0, "catch": 0, "pass_mark": 0, "n_masks": 1}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     home = Path(folder)
    ...     for name in images["file"]:
    ...         Image.new("RGB", (32, 32), "gray").save(home / name)
    ...     images[:2].to_csv(home / "main.csv")
    ...     images[2:].to_csv(home / "photographs.csv")
    ...     key = write_experiment_page(
    ...         [home / "main.csv"], [home / "photographs.csv"], home / "out", **few
    ...     )
    ...     sorted(path.name for path in (home / "out").iterdir())
    ['key.csv', 'page', 'provenance.json']
    >>> key[["phase", "id", "condition"]].values.tolist()
    [['main', 'rex', 'late'], ['main', 'tom', 'late'], ['practice', 'ben', 'natural']]
    """
    out = Path(out)
    chosen = PageSettings(**settings)
    sources = read_sources(stimuli, conditions=True)
    main = fill_missing(sources, chosen.missing)
    size = check_photographs(main)
    others = choose_photographs(
        read_sources(photographs, conditions=False),
        main,
        {
            "practice": chosen.practice,
            "screening": chosen.screening,
            "catch": chosen.catch,
        },
        chosen.seed,
    )
    main = main.assign(phase="main")
    table = pd.concat([main, others], ignore_index=True)
    pictures = Photograph(table["file"].tolist(), size)
    contents = [digest(pictures(row)) for row in range(len(table))]
    templates = digest([_template(name) for name in PAGE_FILES])
    version = digest(table.drop(columns="file"), contents, asdict(chosen), templates)
    key_path = out / "key.csv"
    if key_path.is_file():
        known = read_text(key_path, KEY_COLUMNS)
        versions = set(known["page_version"])
        if versions != {version}:
            raise InputError(
                f"{out} holds another experiment, whose key is needed to read its answers; choose "
                "another --out."
            )
    # files are named by hashes of seed, phase, id and condition
    words = table["phase"] + "\x1f" + table["id"] + "\x1f" + table["condition"]
    table["code"] = [_code(chosen.seed, word) for word in words]
    table["page_version"] = version
    _write_folder(out, table, pictures, chosen, version, progress)
    key = table.rename(columns={"category": "truth"}).drop_duplicates("code")
    key["file"] = [Path(path).name for path in key["file"]]
    key = key[list(KEY_COLUMNS)].reset_index(drop=True)
    write_table(key_path, key)
    record = provenance(asdict(chosen), seed=chosen.seed, page_version=version)
    write_json(out / "provenance.json", record)
    return key


def _code(seed: int, name: str) -> str:
    """Name a file of the page by a hash that does not tell what is in it."""
    text = f"{seed}\x1f{name}"
    hashed = hashlib.sha256(text.encode())
    digits = hashed.hexdigest()
    return digits[:16]


def _template(name: str) -> str:
    package = resources.files("neurometamer")
    folder = package / "templates" / "experiment"
    file = folder / name
    return file.read_text(encoding="utf-8")


def _write_folder(
    out: Path,
    table: pd.DataFrame,
    pictures: Photograph,
    chosen: PageSettings,
    version: str,
    progress: Progress | None,
) -> None:
    """Write images and masks under their codes, then the settings and the page.

    The files are written in the order of the codes.
    """
    images = out / "page" / "images"
    for done, row in enumerate(np.argsort(table["code"].to_numpy()), start=1):
        write_png(images / f"{table['code'][row]}.png", pictures(int(row)))
        if progress is not None:
            progress(done, len(table))
    masks = []
    for number in range(chosen.n_masks):
        random = generator(chosen.seed, "mask", number)
        mask = MASKS[chosen.mask](pictures, len(table), random)
        code = _code(chosen.seed, f"mask\x1f{number}")
        write_png(images / f"{code}.png", mask.astype(np.float32))
        masks.append(code)
    described = json.dumps(_page_settings(table, pictures.size, chosen, version, masks), indent=1)
    write_text(out / "page" / "experiment.js", f"window.EXPERIMENT = {described};\n")
    for name in PAGE_FILES:
        write_text(out / "page" / name, _template(name))


def _page_settings(
    table: pd.DataFrame,
    size: tuple[int, int],
    chosen: PageSettings,
    version: str,
    masks: Sequence[str],
) -> dict[str, Any]:
    """Collect what the page may know: codes without names, and lists that mix the conditions."""
    salt = version[:8]

    checked: dict[str, list[dict[str, Any]]] = {"practice": [], "screening": []}
    for row in table.sort_values("code").itertuples():
        if row.phase in checked:
            check = page_hash(f"{salt}|{row.code}|{row.category}")
            of_phase = checked[str(row.phase)]
            of_phase.append({"code": row.code, "check": check})
    # a row for each image and a column for each list: the code that is shown
    main = table[table["phase"] == "main"]
    conditions = sorted(set(main["cell"]))
    images = main.drop_duplicates("reference_id")
    images = images.sort_values("reference_id")
    by_cell = main.set_index(["reference_id", "cell"])
    code_of = by_cell["code"].to_dict()
    assigned = assign_conditions(images, conditions, chosen.seed)
    lists = []
    for image, numbers in zip(images["reference_id"], assigned, strict=True):
        codes = [code_of[image, conditions[number]] for number in numbers]
        lists.append(codes)
    is_catch = table["phase"] == "catch"
    catch = table.loc[is_catch, "code"]
    return {
        "title": chosen.title,
        "consent": chosen.consent,
        "version": version,
        "seed": chosen.seed,
        "salt": salt,
        "size": list(size),
        "categories": list(CATEGORIES),
        "timing": [chosen.fixation_ms, chosen.image_ms, chosen.mask_ms],
        "slow": None if chosen.slow_ms is None else list(chosen.slow_ms),
        "practice": checked["practice"],
        "screening": checked["screening"],
        "pass_mark": chosen.pass_mark,
        "catch": sorted(catch),
        "lists": sorted(lists),
        "masks": sorted(masks),
        "block_length": chosen.block_length,
        "post_url": chosen.post_url,
        "post_tries": chosen.post_tries,
        "post_wait_ms": chosen.post_wait_ms,
    }

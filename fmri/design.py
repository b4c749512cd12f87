"""Scan designs: which image is shown when, counterbalanced by seed, and what noise betas will have.

A design is a table of trials. Its files are BIDS events, which the GLM reads after the scan, and
the same trials for the program that shows the images.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fmri.betas.event_designs import event_design, noise_gain
from fmri.bold import BoldRun
from neurometamer.arguments import check_fields, checked
from neurometamer.errors import InputError, duplicates, name_ids, need_columns, unknown_name
from neurometamer.provenance import digest, generator, provenance
from neurometamer.resume import claim_folder, write_record, writes_into
from neurometamer.store import write_json, write_table
from neurometamer.summaries import short_repr

BLANK = "blank"
"""Trial type of trials without an image; `fmri.estimate_betas` ignores it by default."""

TASK = "images"

_MOST_DRAWS = 1000
"""Orders that are drawn until no image follows itself."""

_IN_A_STRETCH = 2
"""Images of one type in each stretch of a cycle."""

COLUMNS = {
    "onset": "Seconds from the first volume to the image, or to where it would be in a blank trial",
    "duration": "Seconds that the image is shown",
    "trial_type": f"Id of the image; {BLANK}: no image",
    "image_type": "Type of the image (RE, AN, AI, metamer, …)",
    "stim_file": "File of the image",
    "trial": "Number of the trial in its run, from 1",
}
"""Column of the events to what it means."""

VARIABLES = {"trial_type": "image_id", "stim_file": "image_file"}
"""Column of the events to the name of the variable in the tables for PsychoPy."""


@short_repr
@dataclass(frozen=True, kw_only=True)
class ScanOptions:
    """Sessions, runs and trials of a scan.

    Parameters
    ----------
    n_sessions : int
        Sessions; each shows its share of the images, all images of a photograph in the same one.
    n_runs : int
        Runs a session.
    n_repeats : int
        Presentations of each image of the session in each of its runs.
    n_blanks : int
        Trials without an image in each run, spread over it.
    image_s : float
        Seconds that an image is shown.
    gaps_s : tuple of float
        Seconds without an image in a trial; several are used equally often, in random order.
    gap_first : bool
        Whether the gap comes before the image.
    ends_s : float
        Seconds of rest at both ends of a run.
    t_r : float
        Repetition time in seconds.

    Raises
    ------
    InputError
        When a number is out of range.

    Examples
    --------
    >>> ScanOptions(n_runs=8).n_blanks
    9
    """

    n_sessions: int = 2
    n_runs: int = 5
    n_repeats: int = 2
    n_blanks: int = 9
    image_s: float = 2.0
    gaps_s: tuple[float, ...] = (2.0,)
    gap_first: bool = True
    ends_s: float = 20.0
    t_r: float = 2.0

    def __post_init__(self) -> None:
        check_fields(self)
        above_zero = ("n_sessions", "n_runs", "n_repeats", "image_s", "t_r")
        from_zero = ("n_blanks", "ends_s")
        for name in (*above_zero, *from_zero):
            value = getattr(self, name)
            if not 0 <= value < np.inf:
                raise InputError(f"{name} is {value}; give at least 0.")
            if value == 0 and name in above_zero:
                raise InputError(f"{name} is {value}; give a positive number.")
        gaps = np.array(self.gaps_s)
        is_time = (gaps >= 0) & np.isfinite(gaps)
        if not len(gaps) or not is_time.all():
            raise InputError(f"gaps_s is {self.gaps_s}; give one or more times of 0 s or more.")


@dataclass(frozen=True, kw_only=True)
class ScanPreset:
    """Options that belong together.

    Parameters
    ----------
    options : ScanOptions
        The options.
    help : str
        Where they come from.

    Examples
    --------
    >>> PRESETS["zhang2021"].options.n_blanks
    9
    """

    options: ScanOptions
    help: str


PRESETS: dict[str, ScanPreset] = {
    "zhang2021": ScanPreset(
        options=ScanOptions(),
        help="Zhang et al. (2021): 2 sessions with half of the images each, 5 runs, each image "
        "twice a run and 9 blanks, 2 s blank then 2 s image, 20 s at both ends",
    ),
    "rapid": ScanPreset(
        options=ScanOptions(
            n_sessions=1,
            n_runs=10,
            n_repeats=1,
            n_blanks=12,
            image_s=3.0,
            gaps_s=(1.0,),
            gap_first=False,
            ends_s=16.0,
            t_r=1.6,
        ),
        help="rapid, one beta a trial: 3 s image, 1 s gap, each image once a run, 12 blanks",
    ),
    "jittered": ScanPreset(
        options=ScanOptions(
            n_sessions=1,
            n_runs=8,
            n_repeats=1,
            n_blanks=0,
            gaps_s=(2.0, 3.0, 4.0, 6.0, 10.0),
            gap_first=False,
            ends_s=16.0,
        ),
        help="rapid with gaps of 2 to 10 s instead of blanks, each image once a run",
    ),
    "slow": ScanPreset(
        options=ScanOptions(
            n_sessions=1,
            n_repeats=1,
            n_blanks=0,
            gaps_s=(10.0,),
            gap_first=False,
            ends_s=16.0,
        ),
        help="slow: responses hardly overlap, 2 s image then 10 s gap",
    ),
}
"""Name → options of a scan; a preset is added by an entry here."""


@short_repr
@dataclass(frozen=True, kw_only=True, eq=False)
class ScanDesign:
    """Trials of all runs of one subject.

    Parameters
    ----------
    trials : pandas.DataFrame
        One row a trial: session, run, trial (from 1), onset and duration (s), trial_type (id of
        the image, or ``"blank"``), image_type, and stim_file where the files are known.
    runs : pandas.DataFrame
        One row a run: session, run, n_trials, n_blanks, seconds, n_volumes; noise_gain_trial and
        noise_gain_image (`fmri.noise_gain`, one regressor a trial and one an image); efficiency
        (inverse of the mean variance of a difference between image types, noise of 1).
    images : pandas.DataFrame
        One row an image: id, image_type, session, n_presentations, and predicted_noise (standard
        deviation of the mean beta over all runs, noise of the images of 1).
    options : ScanOptions
        How it was made.
    provenance : mapping
        JSON-able record.

    Examples
    --------
    >>> images = pd.DataFrame({"id": ["cat", "cup", "dog", "hat"], "kind": ["RE", "AN"] * 2})
    >>> design = design_scan(images, preset="slow", n_runs=2)
    >>> design.runs[["run", "n_trials", "n_volumes"]].to_numpy().tolist()
    [['1', 4, 40], ['2', 4, 40]]
    """

    trials: pd.DataFrame
    runs: pd.DataFrame
    images: pd.DataFrame
    options: ScanOptions
    provenance: dict[str, Any]


@checked
def design_scan(
    stimuli: pd.DataFrame,
    *,
    preset: str = "zhang2021",
    subject: str = "01",
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    **changes: Any,
) -> ScanDesign:
    """Make the schedule of a subject's scan.

    In each run every image of the session is shown equally often, and never twice in a row (blanks
    between do not count). A run goes through all images before it repeats one, and image types are
    spread evenly over each such cycle: each stretch that could hold two images of a type does. So
    are the blanks over the run.

    Parameters
    ----------
    stimuli : pandas.DataFrame
        Images: ``id``, ``kind``, and where they are known ``reference_id`` (images of one
        photograph share a session), ``category`` (spread evenly over sessions) and ``file``.
    preset : str
        Name of options (`PRESETS`).
    subject : str
        Label of the subject; each has an order of its own.
    seed : int
        All orders derive from it, the subject, the session and the run.
    progress : callable, optional
        Called as ``progress(done, total)`` after the noise of each run is predicted.
    **changes : object
        Fields of `ScanOptions` that differ from the preset.

    Returns
    -------
    ScanDesign
        Trials, and what noise to expect.

    Raises
    ------
    InputError
        When ids are missing or occur twice, there are too few images, or a name is unknown.

    Notes
    -----
    Noise gains are those of white noise, glover's response and drifts up to 0.01 Hz. Zhang et al.
    (2021) drew orders at random within a run; the balance is ours.

    References
    ----------
    Zhang et al. (2021). Adversarial noise and adversarial interference images in the human visual
    cortex. Frontiers in Neuroinformatics 15, 677925 (Methods).
    Dale (1999). Optimal experimental design for event-related fMRI. Human Brain Mapping 8, 109-114
    (efficiency, equation 5).

    Examples
    --------
    >>> ids = [f"{number}_{kind}" for number in range(4) for kind in ("RE", "AN", "AI")]
    >>> images = pd.DataFrame({"id": ids, "kind": ["RE", "AN", "AI"] * 4})
    >>> design = design_scan(images, n_sessions=1, n_runs=2, n_blanks=3)
    >>> len(design.trials), design.trials["trial_type"].value_counts().to_dict()["0_RE"]
    (54, 4)
    """
    if not re.fullmatch(r"(sub-)?[A-Za-z0-9+]+", subject):
        raise InputError(f"subject is '{subject}'; give a BIDS label: letters and digits.")
    subject = subject.removeprefix("sub-")
    if preset not in PRESETS:
        raise unknown_name("preset", preset, PRESETS)
    defaults = PRESETS[preset].options
    known = vars(defaults)
    for name in changes:
        if name not in known:
            raise unknown_name("option of a scan", name, known)
    options = replace(defaults, **changes)
    random = generator(seed, "sessions", subject)
    images = _images_of_sessions(stimuli, options.n_sessions, random)
    parts = []
    for session, shown in images.groupby("session", sort=True):
        label = str(session) if options.n_sessions > 1 else ""
        for number in range(1, options.n_runs + 1):
            random = generator(seed, "design", subject, label, number)
            trials = _run_trials(shown, options, random)
            trials.insert(0, "session", label)
            trials.insert(1, "run", str(number))
            parts.append(trials)
    trials = pd.concat(parts, ignore_index=True)
    runs, noise = _predict(trials, options, progress)
    shown_in = images["session"] if options.n_sessions > 1 else ""
    record = provenance(
        {"preset": preset, "subject": subject, "seed": seed, **vars(options)},
        step="design_scan",
        stimuli_digest=digest(images[["id", "image_type"]]),
    )
    table = images[["id", "image_type"]].assign(session=shown_in)
    table["n_presentations"] = options.n_runs * options.n_repeats
    table["predicted_noise"] = table["id"].map(noise)
    return ScanDesign(
        trials=trials,
        runs=runs,
        images=table.reset_index(drop=True),
        options=options,
        provenance=record,
    )


@writes_into("folder")
@checked
def write_design(design: ScanDesign, folder: str | os.PathLike[str]) -> Path:
    """Write a design as BIDS events, and as tables for the program that shows the images.

    Parameters
    ----------
    design : ScanDesign
        From `design_scan`.
    folder : path-like
        Gets ``sub-…/[ses-…/]func/…_task-images_run-…_events.tsv`` with one JSON for all,
        ``psychopy/…_run-….csv`` (columns are names of variables, as PsychoPy's ``TrialHandler``
        needs them), ``runs.csv``, ``images.csv`` and ``design.json``.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    InputError
        When the folder holds another design, or other files.

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> images = pd.DataFrame({"id": ["cat", "cup", "dog", "hat"], "kind": ["RE", "AN"] * 2})
    >>> design = design_scan(images, preset="slow", n_runs=1)
    >>> folder = write_design(design, Path(mkdtemp()) / "design")
    >>> sorted(path.name for path in folder.rglob("*.*"))[:3]
    ['design.json', 'images.csv', 'runs.csv']
    """
    target = Path(folder)
    claim_folder(
        target, "scan", design.provenance, inputs=("stimuli_digest",), record="design.json"
    )
    subject = design.provenance["settings"]["subject"]
    for (session, run), trials in design.trials.groupby(["session", "run"], sort=False):
        place = target / f"sub-{subject}"
        name = f"sub-{subject}"
        if session:
            place = place / f"ses-{session}"
            name = f"{name}_ses-{session}"
        columns = [column for column in COLUMNS if column in trials]
        events = trials[columns]
        file = f"{name}_task-{TASK}_run-{run}_events.tsv"
        write_table(place / "func" / file, events)
        shown = trials.rename(columns=VARIABLES)
        is_blank = trials["trial_type"] == BLANK
        shown["is_blank"] = is_blank.astype(int)
        table = target / "psychopy" / f"{name}_run-{run}.csv"
        write_table(table, shown)
    about = {name: {"Description": text} for name, text in COLUMNS.items()}
    for name in ("onset", "duration"):
        about[name]["Units"] = "s"
    write_json(target / f"task-{TASK}_events.json", about)
    write_table(target / "runs.csv", design.runs)
    write_table(target / "images.csv", design.images)
    finished = {**design.provenance, "analysis": "scan", "finished": True}
    write_record(target / "design.json", finished)
    return target


@checked
def efficiency(design: pd.DataFrame) -> float:
    """Measure how well a design tells its events apart, whatever the noise.

    Parameters
    ----------
    design : pandas.DataFrame
        As from `fmri.event_design`; the columns ``event_…`` are compared.

    Returns
    -------
    float
        Inverse of the mean variance of the difference between two betas, over all pairs, for noise
        of variance 1; NaN where there is one event.

    Examples
    --------
    >>> design = pd.DataFrame({"event_0001": [1.0, 0, 0], "event_0002": [0, 1.0, 0]})
    >>> efficiency(design)
    0.5
    """
    names = design.columns.astype(str)
    is_event = names.str.startswith("event_")
    n_types = int(is_event.sum())
    if n_types < 2:
        return float("nan")
    covariance = _covariance(design, n_types)
    own = np.diag(covariance)
    of_both = np.add.outer(own, own)
    shared = 2 * covariance
    of_differences = of_both - shared
    pairs = np.triu_indices(n_types, 1)
    mean = of_differences[pairs].mean()
    return 1 / float(mean)


# --------------------------------------------------------------------------------- images, sessions


def _images_of_sessions(
    stimuli: pd.DataFrame, n_sessions: int, random: np.random.Generator
) -> pd.DataFrame:
    """Check ids and types, and deal the photographs to the sessions, category by category.

    Every image has a photograph, at worst itself.
    """
    cure = "Give a stimuli.csv, or a table with the columns id and kind."
    need_columns(stimuli, ("id", "kind"), "the stimulus table", cure)
    lacking = stimuli["id"].isna() | stimuli["kind"].isna()
    if lacking.any():
        raise InputError(f"{int(lacking.sum())} image(s) have no id or no kind; fill them.")
    images = stimuli.reset_index(drop=True).astype({"id": str, "kind": str})
    if again := duplicates(images["id"]):
        raise InputError(f"images given more than once: {name_ids(again)}; give each once.")
    if BLANK in set(images["id"]):
        raise InputError(f"an image is called '{BLANK}', the name of blank trials; rename it.")
    images = images.rename(columns={"kind": "image_type"})
    reference = images["id"]
    if "reference_id" in images:
        reference = images["reference_id"].fillna(images["id"])
    images["reference"] = reference.astype(str)
    n_groups = images["reference"].nunique()
    if n_groups < n_sessions or len(images) < 2 * n_sessions:
        raise InputError(
            f"{len(images)} image(s) of {n_groups} photograph(s) for {n_sessions} session(s); give "
            "at least 2 images a session, or fewer sessions (n_sessions)."
        )
    groups = images.drop_duplicates("reference")
    order = random.permutation(len(groups))
    dealt = groups.iloc[order]
    if "category" in dealt:
        categories = dealt["category"].astype(str)
        in_order = categories.sort_values(kind="stable")
        dealt = dealt.loc[in_order.index]
    session_of = {}
    for number, reference in enumerate(dealt["reference"]):
        session = number % n_sessions + 1
        session_of[reference] = f"{session:02d}"
    sessions = images["reference"].map(session_of)
    return images.assign(session=sessions)


# ------------------------------------------------------------------------------------------- trials


def _run_trials(
    images: pd.DataFrame, options: ScanOptions, random: np.random.Generator
) -> pd.DataFrame:
    """List the trials of one run."""
    types = images["image_type"].to_numpy()
    order: list[int] = []
    # cycles through all images, types spread over each; none begins with the one before
    for _ in range(options.n_repeats):
        for _ in range(_MOST_DRAWS):
            drawn = np.empty(len(types))
            for name in dict.fromkeys(types):
                is_of_type = types == name
                spread = _spread(int(is_of_type.sum()), _IN_A_STRETCH, random)
                drawn[is_of_type] = random.permutation(spread)
            cycle = np.argsort(drawn).tolist()
            if cycle[:1] != order[-1:]:
                break
        else:
            raise InputError(
                f"no order of {len(types)} image(s) keeps repeats apart; give more images."
            )
        order += cycle
    n_images = len(order)
    n_trials = n_images + options.n_blanks
    places = np.arange(n_images) + 0.5
    blank_places = _spread(options.n_blanks, 1, random) * n_images
    positions = np.concatenate([places, blank_places])
    no_image = np.full(options.n_blanks, -1)
    rows = np.concatenate([order, no_image]).astype(int)
    shown = rows[np.argsort(positions, kind="stable")]
    gaps = random.permutation(np.resize(options.gaps_s, n_trials))
    lengths = gaps + options.image_s
    starts = options.ends_s + np.cumsum(lengths) - lengths
    onsets = starts + gaps if options.gap_first else starts
    is_blank = shown < 0
    ids = images["id"].to_numpy()
    trials = pd.DataFrame(
        {
            "trial": np.arange(1, n_trials + 1),
            "onset": np.round(onsets, 6),
            "duration": options.image_s,
            "trial_type": np.where(is_blank, BLANK, ids[shown]),
            "image_type": np.where(is_blank, "n/a", types[shown]),
        }
    )
    if "file" in images:
        files = images["file"].fillna("").astype(str).to_numpy()
        trials["stim_file"] = np.where(is_blank, "n/a", files[shown])
    trials["gap"] = gaps
    return trials


def _spread(n_items: int, in_a_stretch: int, random: np.random.Generator) -> np.ndarray:
    """Draw places in [0, 1): so many in each of equal stretches."""
    if not n_items:
        return np.zeros(0)
    stretches = np.arange(n_items) // in_a_stretch
    n_stretches = stretches[-1] + 1
    within = random.random(n_items)
    places = stretches + within
    return places / n_stretches


# --------------------------------------------------------------------------------------- prediction


def _predict(
    trials: pd.DataFrame,
    options: ScanOptions,
    progress: Callable[[int, int], None] | None,
) -> tuple[pd.DataFrame, dict[str, float]]:
    """Predict the noise of betas from the designs of all runs; also of each image over all runs."""
    rows = []
    variances: dict[str, list[float]] = {}
    for (session, run), of_run in trials.groupby(["session", "run"], sort=False):
        last = float((of_run["onset"] + of_run["duration"]).max())
        after = options.ends_s if options.gap_first else options.ends_s + of_run["gap"].iloc[-1]
        seconds = last + after
        scan = BoldRun(
            image=Path(f"ses-{session}_run-{run}_bold.nii"),
            n_volumes=int(np.ceil(seconds / options.t_r - 1e-9)),
            t_r=options.t_r,
            events=of_run[["onset", "duration", "trial_type"]],
        )
        events, design = event_design(scan)
        by_image = _joined(design, events["trial_type"])
        type_of = of_run.set_index("trial_type")["image_type"].to_dict()
        by_type = _joined(design, events["trial_type"].map(type_of))
        names = list(dict.fromkeys(events["trial_type"]))
        covariance = _covariance(by_image, len(names))
        for name, variance in zip(names, np.diag(covariance), strict=True):
            variances.setdefault(name, []).append(float(variance))
        row = {
            "session": session,
            "run": run,
            "n_trials": len(of_run),
            "n_blanks": int((of_run["trial_type"] == BLANK).sum()),
            "seconds": seconds,
            "n_volumes": scan.n_volumes,
            "noise_gain_trial": noise_gain(design),
            "noise_gain_image": noise_gain(by_image),
            "efficiency": efficiency(by_type),
        }
        rows.append(row)
        if progress is not None:
            progress(len(rows), options.n_sessions * options.n_runs)
    noise = {}
    for name, of_runs in variances.items():
        noise[name] = float(np.sqrt(np.sum(of_runs)) / len(of_runs))
    return pd.DataFrame(rows), noise


def _joined(design: pd.DataFrame, names: pd.Series) -> pd.DataFrame:
    """Add up the regressors of events of one name."""
    n_events = len(names)
    events = design.iloc[:, :n_events]
    rest = design.iloc[:, n_events:]
    by_name = events.T.groupby(names.to_numpy(), sort=False)
    sums = by_name.sum().T
    columns = []
    for number in range(1, sums.shape[1] + 1):
        columns.append(f"event_{number:04d}")
    sums.columns = pd.Index(columns)
    return pd.concat([sums, rest], axis=1)


def _covariance(design: pd.DataFrame, n_events: int) -> np.ndarray:
    """Compute the covariance of betas for noise of variance 1."""
    values = design.to_numpy()
    inverse = np.linalg.pinv(values)
    of_events = inverse[:n_events]
    return of_events @ of_events.T

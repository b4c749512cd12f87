"""Which networks make the metamers of a set recognizable: random sets and their statistics.

The sets are made as jobs.

References
----------
Boehm et al. (2025). arXiv 2504.01739, Table 5: 100 random sets of 2 to 10 of 31 networks, and for
each network the difference in means, mean(score | in the set) - mean(score | not in the set). The
paper lets all networks outside a set rate it (here the raters ``others``), so raters change with
the set, and it prints differences without sign, interval or correction.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from neurometamer.arguments import Columns, checked, checked_with
from neurometamer.errors import (
    DamagedFile,
    FolderInUse,
    InputError,
    duplicates,
    name_ids,
    need_columns,
    unknown_name,
)
from neurometamer.evaluation.sets import STATES, states_of
from neurometamer.provenance import digest, digest_file, generator
from neurometamer.resume import (
    PIECES,
    alone_in,
    note_remade,
    read_record,
    write_record,
    writes_into,
)
from neurometamer.run_options import RunOptions
from neurometamer.stats.families import correct_p
from neurometamer.stats.resampling import bootstrap_counts, p_from_count, percentile_interval
from neurometamer.store import file_name, read_table, write_table, written_files
from neurometamer.zoo import load_model
from stimuli_gen.stimuli import write_pictures, write_records

if TYPE_CHECKING:
    from stimuli_gen.models import StagedModel
    from stimuli_gen.nulls import NullDistribution
    from stimuli_gen.stimuli import StimulusSet

JOINT = "+"
"""Text between the members of a set, in tables."""
PUBLISHED = {"n_sets": 100, "n_networks": 31, "appearances": 562, "sd": 0.101}
"""Boehm et al. (2025), Table 5.

Sets, networks, sum of the appearances, standard deviation of the scores.
"""
_TRIES = 1_000

# ----------------------------------------------------------------------------------------- the sets


_SCORES = Columns("the table of scores", "Make it with set_scores.", ("set", "members", "score"))
_HITS = Columns(
    "the table of hits",
    "Make it with recognition_table.",
    (
        "set",
        "members",
        "stage",
        "setting",
        "reference_id",
        "evaluator",
        "ways",
        "rule",
        "took_part",
        "valid",
        "hit",
    ),
)


@checked
def random_sets(
    names: Sequence[str], *, n_sets: int = 100, sizes: tuple[int, int] = (2, 10), seed: int = 0
) -> pd.DataFrame:
    """Draw sets of networks, all different.

    Parameters
    ----------
    names : sequence of str
        Networks to choose from.
    n_sets : int
        Number of sets.
    sizes : tuple of int
        Smallest and largest size; each size is as likely (the paper says only "2-10").
    seed : int
        Seed of the draw.

    Returns
    -------
    pandas.DataFrame
        One row a set: set (``set000`` …), members (joined by ``+``, in the order of `names`), size.

    Raises
    ------
    InputError
        When names repeat or hold a ``+``, sizes do not fit, or there are not so many different
        sets.

    Examples
    --------
    >>> sets = random_sets(["alexnet", "resnet", "vgg"], n_sets=3, sizes=(1, 2))
    >>> sets["set"].tolist(), sets["members"].nunique()
    (['set000', 'set001', 'set002'], 3)
    """
    names = list(names)
    again = duplicates(names)
    if again:
        raise InputError(f"networks named more than once: {name_ids(again)}; name each once.")
    wrong = [name for name in names if JOINT in name]
    if wrong:
        raise InputError(
            f"a network's name must not hold '{JOINT}': {name_ids(wrong)}; name it otherwise."
        )
    low, high = sizes
    if not 1 <= low <= high <= len(names) or n_sets < 1:
        raise InputError(
            f"{n_sets} sets of {low} to {high} cannot be drawn of {len(names)} networks; change "
            "the range."
        )
    random = generator(seed, "model sets")
    drawn: list[tuple[int, ...]] = []
    misses = 0
    while len(drawn) < n_sets and misses < _TRIES:
        size = int(random.integers(low, high + 1))
        chosen = random.choice(len(names), size=size, replace=False)
        members = tuple(sorted(chosen.tolist()))
        if members in drawn:
            misses += 1
        else:
            drawn.append(members)
            misses = 0
    if len(drawn) < n_sets:
        raise InputError(
            f"only {len(drawn)} different sets of {low} to {high} of {len(names)} networks were "
            f"found, not {n_sets}; ask for fewer, or for other sizes."
        )
    rows = []
    for number, members in enumerate(drawn):
        joined = JOINT.join(names[position] for position in members)
        rows.append({"set": f"set{number:03d}", "members": joined, "size": len(members)})
    return pd.DataFrame(rows)


def membership(sets: pd.DataFrame) -> pd.DataFrame:
    """Mark which network is in which set.

    Parameters
    ----------
    sets : pandas.DataFrame
        With the columns set and members.

    Returns
    -------
    pandas.DataFrame
        Sets × networks, bool; networks in order of first appearance.
    """
    members = [str(joined).split(JOINT) for joined in sets["members"]]
    everyone = itertools.chain.from_iterable(members)
    names = list(dict.fromkeys(everyone))
    shape = (len(members), len(names))
    values = np.zeros(shape, dtype=bool)
    for row, own in enumerate(members):
        values[row] = np.isin(names, own)
    return pd.DataFrame(values, index=sets["set"].tolist(), columns=names)


# --------------------------------------------------------------------------------------------- jobs


@writes_into("folder")
@checked_with(
    tables={
        "sets": Columns(
            "the table of sets", "Make it with random_sets.", ("set", "members", "size")
        )
    }
)
def plan_sets(
    folder: str | os.PathLike[str],
    sets: pd.DataFrame,
    *,
    stage: str = "middle",
    preset: str = "boehm2025",
    seed: int = 0,
    references: str = "",
    **options: Any,
) -> pd.DataFrame:
    """Write the list of jobs, ``jobs.csv``, and a folder per set.

    The folder holds ``job.json`` with the set and its recipe.

    Parameters
    ----------
    folder : path-like
        Made when missing. Planning the same again changes nothing.
    sets : pandas.DataFrame
        From `random_sets`.
    stage, preset, seed : str, str, int
        See `stimuli_gen.model_metamers`.
    references : str
        Digest of the photographs, where they are known already.
    **options : object
        Overrides of the recipe, but no penalties.

    Returns
    -------
    pandas.DataFrame
        See `job_states`.

    Raises
    ------
    InputError
        When the folder holds other jobs, or a setting is unknown.

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> sets = random_sets(["alexnet", "resnet", "vgg"], n_sets=2, sizes=(2, 2))
    >>> plan_sets(mkdtemp(), sets)["state"].tolist()
    ['to do', 'to do']
    """
    from stimuli_gen.presets import make_recipe

    make_recipe(preset, options)
    if options.get("penalties"):
        raise InputError("jobs of sets hold no penalties; leave `penalties` out.")
    folder = Path(folder)
    jobs = []
    for row in sets.to_dict("records"):
        job: dict[str, Any] = {str(name): value for name, value in row.items()}
        members = job["members"]
        job["members"] = members.split(JOINT)
        job["stage"] = stage
        job["preset"] = preset
        job["seed"] = seed
        job["references"] = references
        job["options"] = dict(options)
        subfolder = folder / file_name(job["set"])
        path = subfolder / "job.json"
        known = _read_state(path)
        if known and digest(known) != digest(job):
            raise InputError(f"{path} is another job; choose another folder, or plan as before.")
        jobs.append(job)
    list_path = folder / "jobs.csv"
    if list_path.is_file():
        there = read_table(list_path, ["set"])
        extra = sorted(set(there["set"]) - set(sets["set"]))
        if extra:
            raise InputError(
                f"{folder} holds other jobs too ({name_ids(extra)}); choose another folder."
            )
    for job in jobs:
        path = folder / job["set"] / "job.json"
        write_record(path, job)
    columns = ["set", "members", "size"]
    write_table(list_path, sets[columns])
    return job_states(folder)


def job_states(folder: str | os.PathLike[str]) -> pd.DataFrame:
    """List the jobs of a folder and how far they are.

    Parameters
    ----------
    folder : path-like
        From `plan_sets`.

    Returns
    -------
    pandas.DataFrame
        set, members, size, state (``to do``, ``done`` or ``failed``), reason. A set is done when
        every file of it is there as it was written.

    Raises
    ------
    InputError
        When there is no list of jobs.
    """
    folder = Path(folder)
    jobs = read_table(folder / "jobs.csv", ["set", "members", "size"])
    states = []
    reasons = []
    for name in jobs["set"].astype(str):
        subfolder = folder / file_name(name)
        state, reason = _state_of(subfolder)
        states.append(state)
        reasons.append(reason)
    return jobs.assign(state=states, reason=reasons)


def _read_state(path: Path) -> dict[str, Any]:
    """Read a file that describes a job or its progress.

    The result is empty when there is no such file or it is damaged.
    """
    if not path.is_file():
        return {}
    try:
        return read_record(path)
    except DamagedFile:
        note_remade(path)
        return {}


def _state_of(folder: Path) -> tuple[str, str]:
    """Return the state of a job and the reason why it is not done."""
    record = _read_state(folder / "state.json")
    state = record.get("state", "to do")
    if state != "done":
        return state, record.get("reason", "")
    damaged = []
    for name, value in record["files"].items():
        path = folder / name
        if not path.is_file() or digest_file(path) != value:
            damaged.append(name)
            note_remade(path)
    if damaged:
        return "to do", f"lost or damaged: {name_ids(damaged)}"
    return "done", ""


@checked
def run_sets(
    folder: str | os.PathLike[str],
    references: StimulusSet,
    *,
    load: Callable[[str], StagedModel] | None = None,
    nulls: Sequence[NullDistribution] = (),
    share: tuple[int, int] = (1, 1),
    run: RunOptions | None = None,
) -> pd.DataFrame:
    """Make the metamers of all jobs that are not done; the same call goes on after an interruption.

    Parameters
    ----------
    folder : path-like
        From `plan_sets`. Each set's metamers are written into its folder
        (`stimuli_gen.write_stimuli`).
    references : StimulusSet
        Photographs in the networks' size.
    load : callable, optional
        Name to network; `neurometamer.zoo.load_model` by default. Use it to give networks of a set
        one size.
    nulls : sequence of NullDistribution
        Null distributions of the networks at the stages that are matched; metamers of sets without
        them are not judged.
    share : tuple of int
        (i, n): only every n-th job, from the i-th on, so that n processes or machines can share a
        folder.
    run : RunOptions, optional
        Batch size and progress, which is called with the jobs of the share that are done, and all.

    Returns
    -------
    pandas.DataFrame
        See `job_states`. A job that cannot be done is ``failed``, with its reason, and is tried
        again by the next call.

    Raises
    ------
    InputError
        When there is no list of jobs, a job is damaged, another process works on it, or the
        photographs are not those of the plan.

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> from neurometamer.zoo import load_model
    >>> from stimuli_gen import StimulusSet, at_size
    >>> photographs = StimulusSet(
    ...     images=np.full((1, 3, 64, 64), 0.5, dtype=np.float32),
    ...     table=pd.DataFrame({"id": ["cat"], "kind": "RE", "reference_id": ["cat"]}),
    ... )
    >>> folder = mkdtemp()
    >>> sets = random_sets(["squeezenet1_0"], n_sets=1, sizes=(1, 1))
    >>> _ = plan_sets(folder, sets, stage="early", preset="fast", steps=2)
    >>> load = lambda name: at_size(load_model(name, weights="random"), 64)
    >>> run_sets(folder, photographs, load=load)["state"].tolist()
    ['done']
    """
    run = run or RunOptions()
    part, parts = share
    if not 1 <= part <= parts:
        raise InputError(f"share {part}/{parts} is none; give i/n with i from 1 to n.")
    folder = Path(folder)
    jobs = job_states(folder).iloc[part - 1 :: parts]
    n_made = int((jobs["state"] == "done").sum())
    for name in jobs.loc[jobs["state"] != "done", "set"]:
        job = read_record(folder / name / "job.json")
        if job["references"] and job["references"] != references.digest:
            raise InputError(f"{folder / name} was planned for other photographs; give those.")
        with alone_in(folder / name):
            n_made += _run_job(job, folder / name, references, load or load_model, nulls, run)
        if run.progress is not None:
            run.progress(n_made, len(jobs))
    return job_states(folder)


def _run_job(
    job: Mapping[str, Any],
    folder: Path,
    references: StimulusSet,
    load: Callable[[str], StagedModel],
    nulls: Sequence[NullDistribution],
    run: RunOptions,
) -> bool:
    """Make the metamers of a job unless another process has made them meanwhile.

    Return whether they are there.
    """
    from stimuli_gen.criteria import judged_at
    from stimuli_gen.matching import match_stages
    from stimuli_gen.metamers import confirm_metamers, model_metamers

    if _state_of(folder)[0] == "done":
        return True
    try:
        with written_files() as written:
            networks = [load(name) for name in job["members"]]
            matched = judged_at(networks, match_stages(networks, job["stage"]))
            own = []
            for null in nulls:
                if any(null.stage_of(model, stage) for model, stage in matched):
                    own.append(null)
            stimuli = model_metamers(
                networks,
                references,
                stage=job["stage"],
                preset=job["preset"],
                seed=job["seed"],
                nulls=own,
                run=replace(run, resume=folder / PIECES, progress=None),
                **job["options"],
            )
            write_pictures(stimuli, folder)
            confirmed = confirm_metamers(networks, stimuli, references, folder, nulls=own)
            write_records(confirmed, folder)
    except FolderInUse:
        raise
    except InputError as error:
        write_record(folder / "state.json", {"state": "failed", "reason": str(error)})
        return False
    # the finished pieces beside the files of a set have checksums of their own
    digests = {}
    for path in sorted(set(written)):
        name = path.relative_to(folder)
        if name.parts[0] != PIECES:
            digests[name.as_posix()] = digest_file(path)
    write_record(folder / "state.json", {"state": "done", "reason": "", "files": digests})
    return True


# --------------------------------------------------------------------------------------- statistics


RATERS = {
    "held-out": "evaluators that are in no set, the same for all sets",
    "others": "all evaluators but the set's own networks, as Boehm et al. (2025) do; they change "
    "with the set",
}
"""Name of the raters of a set, to their description."""


@checked_with(tables={"hits": _HITS})
def set_scores(
    hits: pd.DataFrame,
    *,
    raters: str = "held-out",
    held_out: Sequence[str] = (),
    validity: str = "valid",
    ways: int = 1000,
) -> pd.DataFrame:
    """Score each set by evaluators that are not in it.

    Parameters
    ----------
    hits : pandas.DataFrame
        From `neurometamer.evaluation.recognizability.recognition_table`, of one stage and setting.
    raters : str
        One of `RATERS`.
    held_out : sequence of str
        For the raters ``held-out``: evaluators, at least 2.
    validity : {"valid", "failed", "not judged"}
        Which metamers count.
    ways : int
        1000 or 16 (then the first rule in the table).

    Returns
    -------
    pandas.DataFrame
        set, members, size, score (mean over images and raters, in [0, 1]; NaN where no metamer or
        no rater counts), n (images), n_raters.

    Raises
    ------
    InputError
        When a name is unknown, there are fewer than 2 held-out evaluators, one is not in the table
        or is in a set, or the table has several stages or settings.

    Notes
    -----
    With the raters ``others`` a set with a network is never rated by that network: where networks
    differ in how often they recognize anything, this alone makes a difference in means.
    ``held-out`` raters do not have this fault.

    Examples
    --------
    >>> hits = pd.DataFrame(
    ...     {
    ...         "set": ["a", "a", "b", "b"],
    ...         "members": ["alexnet", "alexnet", "resnet", "resnet"],
    ...         "stage": "late",
    ...         "setting": "unbounded",
    ...         "reference_id": "cat",
    ...         "evaluator": ["vgg", "vit"] * 2,
    ...         "ways": 1000,
    ...         "rule": "all classes",
    ...         "took_part": False,
    ...         "valid": True,
    ...         "hit": [1.0, 1.0, 0.0, 1.0],
    ...     }
    ... )
    >>> set_scores(hits, held_out=["vgg", "vit"])[["members", "score", "n_raters"]].values.tolist()
    [['alexnet', 1.0, 2], ['resnet', 0.5, 2]]
    """
    if raters not in RATERS:
        raise unknown_name("way to rate sets", raters, RATERS)
    if validity not in STATES:
        raise unknown_name("validity", validity, STATES)
    places = hits[["stage", "setting"]].drop_duplicates()
    if len(places) > 1:
        words = places.agg(" ".join, axis=1)
        raise InputError(
            f"the sets are of several stages or settings ({name_ids(words)}); score one at a time."
        )
    rows = hits[hits["ways"] == ways]
    took_part = rows["took_part"].astype(bool)
    if raters == "others":
        rows = rows[~took_part]
    else:
        _check_held_out(rows, held_out)
        rows = rows[rows["evaluator"].isin(list(held_out))]
    if len(rows):
        first_rule = rows["rule"].iloc[0]
        rows = rows[rows["rule"] == first_rule]
    in_state = states_of(rows["valid"]) == validity
    by_set = rows[in_state].groupby("set")
    scores = pd.DataFrame(
        {
            "score": by_set["hit"].mean(),
            "n": by_set["reference_id"].nunique(),
            "n_raters": by_set["evaluator"].nunique(),
        }
    )
    sets = hits[["set", "members"]].drop_duplicates()
    n_joints = sets["members"].str.count(re.escape(JOINT))
    sets = sets.assign(size=n_joints + 1)
    table = sets.merge(scores.reset_index(), on="set", how="left")
    for name in ("n", "n_raters"):
        table[name] = table[name].fillna(0).astype(int)
    return table


def _check_held_out(hits: pd.DataFrame, held_out: Sequence[str]) -> None:
    named = set(held_out)
    if len(named) < 2:
        raise InputError(
            f"{len(named)} held-out evaluator(s); at least 2 are needed. Name evaluators "
            "that are in no set, or let all networks but a set's own rate it (raters='others')."
        )
    known = list(dict.fromkeys(hits["evaluator"]))
    for name in held_out:
        if name not in known:
            raise unknown_name("evaluator", name, known)
    took_part = hits.loc[hits["took_part"].astype(bool), "evaluator"]
    taken = sorted(named & set(took_part))
    if taken:
        raise InputError(
            f"held-out evaluators that are in a set: {name_ids(taken)}; hold out others, or use "
            "raters='others'."
        )


@checked_with(tables={"scores": _SCORES})
def difference_in_means(
    scores: pd.DataFrame,
    *,
    n_permutations: int = 10_000,
    n_resamples: int = 10_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """Compare the sets with each network to those without it.

    The differences are signed, and p is corrected for all networks.

    Parameters
    ----------
    scores : pandas.DataFrame
        set, members, score; sets without a score are left out and counted.
    n_permutations : int
        Shuffles of the scores over the sets; p = (1 + k) / (1 + N) for differences at least as far
        from 0.
    n_resamples : int
        Resamples of sets.
    confidence : float
        Share of the interval, in (0, 1).
    seed : int
        Seed of both.

    Returns
    -------
    pandas.DataFrame
        One row a network: network, appearances, difference (Δ = mean with - mean without), low,
        high, se (sd √(1/a + 1/(n - a)), a being the appearances), p, p_bonferroni, p_fdr
        (Benjamini-Hochberg), n_sets, n_excluded. NaN for a network that is in all sets or in none.

    Raises
    ------
    InputError
        When fewer than 4 sets have a score.

    Examples
    --------
    >>> scores = random_sets(["alexnet", "resnet", "vgg"], n_sets=6, sizes=(1, 2))
    >>> has_vgg = scores["members"].str.contains("vgg")
    >>> scores = scores.assign(score=np.where(has_vgg, 0.8, 0.2))
    >>> table = difference_in_means(scores, n_permutations=99, n_resamples=99).set_index("network")
    >>> round(float(table.loc["vgg", "difference"]), 3)
    0.6
    """
    if n_permutations < 0:
        raise InputError(f"n_permutations is {n_permutations}; give 0 or more.")
    is_scored = np.isfinite(scores["score"].astype(float))
    usable = scores[is_scored]
    n = len(usable)
    if n < 4:
        raise InputError(f"{n} set(s) have a score; differences need at least 4.")
    members = membership(usable)
    x = members.to_numpy(dtype=float)
    y = usable["score"].to_numpy(dtype=float)
    once = np.ones((1, n))
    observed = _differences(once, y[None], x)[0]
    random = generator(seed, "shuffle scores", n)
    copies = np.tile(y, (n_permutations, 1))
    shuffled = random.permuted(copies, axis=1)
    null = _differences(once, shuffled, x)
    smallest = np.abs(observed) - 1e-12
    n_reached = (np.abs(null) >= smallest).sum(axis=0)
    p = p_from_count(n_reached, n_permutations)
    p = np.where(np.isfinite(observed), p, np.nan)
    counts = bootstrap_counts(n, n_resamples, seed).astype(float)
    low, high = percentile_interval(_differences(counts, y[None], x), confidence)
    appearances = x.sum(axis=0)
    return pd.DataFrame(
        {
            "network": members.columns,
            "appearances": appearances.astype(int),
            "difference": observed,
            "low": low,
            "high": high,
            "se": _difference_se(y.std(ddof=1), appearances, n),
            "p": p,
            "p_bonferroni": correct_p(p, "bonferroni"),
            "p_fdr": correct_p(p, "fdr"),
            "n_sets": n,
            "n_excluded": len(scores) - n,
        }
    )


def _difference_se(sd: float, appearances: np.ndarray, n_sets: int) -> np.ndarray:
    """Compute the standard error of a difference between the sets with a network and the others."""
    n_others = n_sets - appearances
    with np.errstate(divide="ignore"):
        with_it = 1 / appearances
        without_it = 1 / n_others
        inverse = with_it + without_it
    factor = np.sqrt(inverse)
    return sd * factor


def _differences(weights: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Compute the mean with minus the mean without each network.

    Weights are (m or 1, n), scores (m or 1, n), membership (n, networks).
    """
    weighted = weights * y
    absent = 1 - x
    n_inside = weights @ x
    n_outside = weights @ absent
    with np.errstate(divide="ignore", invalid="ignore"):
        inside = weighted @ x / n_inside
        outside = weighted @ absent / n_outside
        return inside - outside


@checked_with(tables={"scores": _SCORES})
def membership_regression(scores: pd.DataFrame, *, confidence: float = 0.95) -> pd.DataFrame:
    """Regress the scores of sets on membership and size.

    Parameters
    ----------
    scores : pandas.DataFrame
        set, members, score, from `set_scores` with fixed held-out evaluators.
    confidence : float
        Share of the intervals, in (0, 1).

    Returns
    -------
    pandas.DataFrame
        One row a term: ``(intercept)``, ``size``, and each network: estimate, se, t, p, low, high,
        p_bonferroni and p_fdr (over the networks), df.

    Raises
    ------
    InputError
        When there are not more sets than terms, or the terms cannot be told apart.

    Notes
    -----
    A set's size is the sum of its memberships, so the two cannot stand side by side freely. The
    model is score = a + b · (size - mean size) + Σ c_M · [M in the set], with Σ c_M = 0: b is what
    one more average network adds, c_M how much network M adds beyond that. Ordinary least squares.

    Examples
    --------
    >>> scores = random_sets(["alexnet", "resnet", "vgg"], n_sets=6, sizes=(1, 2))
    >>> has_vgg = scores["members"].str.contains("vgg")
    >>> scores = scores.assign(score=np.where(has_vgg, 0.8, 0.2))
    >>> table = membership_regression(scores).set_index("term")
    >>> sorted(table.index), int(table["df"].iloc[0])
    (['(intercept)', 'alexnet', 'resnet', 'size', 'vgg'], 2)
    """
    from scipy import stats

    is_scored = np.isfinite(scores["score"].astype(float))
    usable = scores[is_scored]
    members = membership(usable)
    x = members.to_numpy(dtype=float)
    y = usable["score"].to_numpy(dtype=float)
    n_networks = x.shape[1]
    size = x.sum(axis=1)
    # the last effect is minus the sum of the others
    contrasts = np.vstack([np.eye(n_networks - 1), -np.ones((1, n_networks - 1))])
    design = np.column_stack([np.ones(len(y)), size - size.mean(), x @ contrasts])
    df = len(y) - design.shape[1]
    if df < 1 or np.linalg.matrix_rank(design) < design.shape[1]:
        raise InputError(
            f"{len(y)} sets cannot tell {n_networks} networks and the size apart; draw more sets, "
            "of several sizes."
        )
    inverse = np.linalg.inv(design.T @ design)
    fitted = inverse @ design.T @ y
    squares = np.square(y - design @ fitted)
    variance = squares.sum() / df
    n_terms = n_networks + 2
    back = np.zeros((n_terms, n_terms - 1))
    back[:2, :2] = np.eye(2)
    back[2:, 2:] = contrasts
    estimate = back @ fitted
    covariance = back @ inverse @ back.T
    se = np.sqrt(np.diag(covariance) * variance)
    t = np.divide(estimate, se, out=np.full(n_terms, np.nan), where=se > 0)
    half = stats.t.ppf((1 + confidence) / 2, df) * se
    p = 2 * stats.t.sf(np.abs(t), df)
    p_networks = np.r_[np.nan, np.nan, p[2:]]
    return pd.DataFrame(
        {
            "term": ["(intercept)", "size", *members.columns],
            "estimate": estimate,
            "se": se,
            "t": t,
            "p": p,
            "low": estimate - half,
            "high": estimate + half,
            "p_bonferroni": correct_p(p_networks, "bonferroni"),
            "p_fdr": correct_p(p_networks, "fdr"),
            "df": df,
        }
    )


@checked
def check_difference_table(
    table: pd.DataFrame, *, n_sets: int = 100, sd: float = 0.101, sizes: tuple[int, int] = (2, 10)
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Check a printed table of differences in means, such as Boehm et al. (2025), Table 5.

    Parameters
    ----------
    table : pandas.DataFrame
        One row a network: network, appearances, difference.
    n_sets : int
        Sets that were drawn.
    sd : float
        Standard deviation of the scores over sets.
    sizes : tuple of int
        Smallest and largest size of a set, as the text says.

    Returns
    -------
    rows : pandas.DataFrame
        The table with se = sd √(1/a + 1/(n - a)), z, exceeds (|z| > 1.96), and exceeds_bonferroni.
    totals : dict
        n_networks; appearances (562 in that table); mean_size and expected_size (5.62 against 6);
        n_negative (none, although the text speaks of negative impact: signs were lost);
        n_exceeding; n_bonferroni.

    Raises
    ------
    InputError
        When a column is missing, or a network appears in no set or in all.

    Examples
    --------
    >>> printed = pd.DataFrame(
    ...     {"network": ["alexnet", "vgg"], "appearances": [20, 30], "difference": [0.01, 0.1]}
    ... )
    >>> rows, totals = check_difference_table(printed)
    >>> rows["exceeds"].tolist(), totals["appearances"]
    ([False, True], 50)
    """
    from scipy.stats import norm

    columns = ("network", "appearances", "difference")
    need_columns(table, columns, "the table", "Copy it with one row a network.")
    appearances = table["appearances"].to_numpy(dtype=float)
    is_wrong = (appearances <= 0) | (appearances >= n_sets)
    if is_wrong.any():
        wrong = table.loc[is_wrong, "network"]
        raise InputError(
            f"no difference can be taken for networks in no set or in all {n_sets}: "
            f"{name_ids(wrong)}; leave them out."
        )
    se = _difference_se(sd, appearances, n_sets)
    z = table["difference"].to_numpy(dtype=float) / se
    alone = float(norm.isf(0.025))
    corrected = float(norm.isf(0.025 / len(table)))
    rows = table.assign(
        se=se,
        z=z,
        exceeds=np.abs(z) > alone,
        exceeds_bonferroni=np.abs(z) > corrected,
    )
    totals = {
        "n_networks": len(table),
        "appearances": int(appearances.sum()),
        "mean_size": float(appearances.sum() / n_sets),
        "expected_size": sum(sizes) / 2,
        "n_negative": int((table["difference"] < 0).sum()),
        "n_exceeding": int(rows["exceeds"].sum()),
        "n_bonferroni": int(rows["exceeds_bonferroni"].sum()),
    }
    return rows, totals

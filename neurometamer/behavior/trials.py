"""Recognition trials: read, check and screen them.

All that is left out is counted and named.

One row a trial, of people and networks alike (column observer); or one row a proportion of correct
answers. Columns are known by their role, and any column of a file can be given a role, so that no
file has to be rewritten.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from neurometamer.arguments import Columns, checked, checked_with
from neurometamer.errors import InputError, duplicates, name_ids, unknown_name
from neurometamer.store import read_table
from neurometamer.summaries import short_repr
from stimuli_gen.categories import CATEGORIES

ROLES: Mapping[str, str] = {
    "participant": "who answered: a person, or the name of a network",
    "stimulus": "which image was shown",
    "condition": "what was done to it; stands for the model where there is no such column",
    "stage": "stage of the network that the image was made for",
    "response": "the category answered",
    "truth": "the category of the photograph",
    "rt": "response time",
    "model": "the network that the image was made for; empty for photographs, which count for "
    "every model",
    "phase": "main, practice, screening or catch; main where there is no such column",
    "observer": "human or network; human where there is no such column",
    "reference_id": "the photograph an image was made from; the stimulus where there is no such "
    "column",
    "proportion": "share of correct answers, 0 to 1, of a table of proportions",
    "experiment": "which experiment; the same name in another experiment is another person",
    "data": "simulated, where the observers are; figures and page then say so",
}
"""What a column can stand for.

A column of another name is given a role by ``columns={role: name}``.
"""

TRIAL_ROLES = ("participant", "stimulus", "stage", "response", "truth")
PROPORTION_ROLES = ("participant", "stage", "proportion")
TEXT_ROLES = tuple(role for role in ROLES if role not in ("rt", "proportion"))
USABLE = Columns(
    "the table of trials",
    "Make it with screen_trials.",
    ("participant", "observer", "model", "stage", "correct"),
)
"""Columns that the table of usable trials must have."""
SHOWN = replace(USABLE, columns=(*USABLE.columns, "stimulus"))
"""Columns that it must have where single images count."""
PROPORTION_NAMES = ("proportion", "proportion_correct")
PHASES = ("main", "practice", "screening", "catch")
KINDS = ("human", "network")
KIND_WORDS: Mapping[str, str] = {
    "humans": "human",
    "people": "human",
    "person": "human",
    "participant": "human",
    "subject": "human",
    "networks": "network",
    "model": "network",
    "models": "network",
    "machine": "network",
    "dnn": "network",
}
"""Other words for the two kinds of observer, in upper or lower case."""
RT_UNITS: Mapping[str, float] = {"ms": 1.0, "s": 1000.0}
"""Unit of response times to its length in milliseconds."""

NATURAL = "natural"
"""The stage of rows that name neither stage nor model: photographs as they are."""

ALL_MODELS = "all"
"""The model of tables that name none."""


@short_repr
@dataclass(frozen=True, kw_only=True)
class Screening:
    """Rules by which trials and people are left out.

    Only `min_screening` is of a paper (7 of 12; Feather et al. 2023); the others are ours, since no
    rule is published. A rule on trials of a phase that the table does not hold is not applied, and
    the notes say so.

    Examples
    --------
    >>> Screening(min_catch=0.5)
    Screening(min_catch=0.5)
    """

    min_screening: float = 7 / 12
    """Least share of correct screening trials."""
    min_catch: float = 0.75
    """Least share of correct catch trials."""
    min_trials: int = 1
    """Least number of usable main trials."""
    max_missing: float = 0.2
    """Largest share of main trials without a usable answer."""
    max_fast: float = 0.2
    """Largest share of main trials answered faster than `fastest_ms`."""
    fastest_ms: float = 150.0
    """Shortest time in ms of an answer to the image; faster trials are left out.

    Times are those of the column rt. On the experiment page they begin when the answers appear,
    after image and mask.
    """

    def __post_init__(self) -> None:
        bad = []
        for name in ("min_screening", "min_catch", "max_missing", "max_fast"):
            share = getattr(self, name)
            if not 0 <= share <= 1:
                bad.append(f"{name} ({share})")
        if bad:
            raise InputError(f"{name_ids(bad)} must lie between 0 and 1; give shares of trials.")
        if self.min_trials < 1 or not self.fastest_ms >= 0:
            raise InputError(
                f"min_trials ({self.min_trials}) must be 1 or more, and fastest_ms "
                f"({self.fastest_ms}) 0 or more."
            )


@short_repr
@dataclass(frozen=True, kw_only=True)
class Screened:
    """Usable main trials, with a table of observers and a table of exclusions.

    `participants` has one row per person or network, `exclusions` one row per person, network or
    kind of trial left out.

    Examples
    --------
    >>> from neurometamer.behavior.curves import simulate_recognition
    >>> trials = simulate_recognition({"resnet": {"late": 0.3}}, n_people=2, n_images=16)
    >>> screened = screen_trials(name_columns(trials))
    >>> screened.participants["reason"].tolist()
    ['', '']
    """

    trials: pd.DataFrame
    participants: pd.DataFrame
    exclusions: pd.DataFrame
    notes: Sequence[str] = field(default_factory=tuple)


@checked
def read_recognition(
    paths: Sequence[str | os.PathLike[str]] | str | os.PathLike[str],
    columns: Mapping[str, str] | None = None,
    where: Mapping[str, str] | None = None,
) -> pd.DataFrame:
    """Read tables of trials or of proportions, and name their columns by role.

    Parameters
    ----------
    paths : path-like or sequence of path-like
        CSV or TSV files of one kind: all trials or all proportions. The answers of networks may lie
        in files of their own.
    columns : mapping of str to str, optional
        Role (see `ROLES`) to the name that it has in the files, where that differs.
    where : mapping of str to str, optional
        Column of the files to the value that its rows must have; others are not read.

    Returns
    -------
    pandas.DataFrame
        Rows of all files. Columns participant, stimulus, stage, response, truth and rt (trials) or
        participant, stage and proportion (proportions); model, observer and others as far as there.
        Other columns are kept.

    Raises
    ------
    InputError
        When a role is unknown, or a file is missing, empty, or lacks columns.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import mkdtemp
    >>> file = Path(mkdtemp()) / "trials.csv"
    >>> trials = pd.DataFrame({"participant": ["001"], "stage": "late", "proportion": 0.4})
    >>> trials.to_csv(file, index=False)
    >>> read_recognition(file)[["participant", "observer", "model", "phase"]].values.tolist()
    [['001', 'human', 'all', 'main']]
    """
    files = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
    names = dict(columns or {})
    for role in names:
        if role not in ROLES:
            raise unknown_name("role of a column", role, ROLES)
    if not files:
        raise InputError("no table of trials given; give at least one file.")
    text = [names.get(role, role) for role in TEXT_ROLES]
    once = [names.get(role, role) for role in ROLES]
    chosen = dict(where or {})
    tables = []
    for path in files:
        table = read_table(path, required=list(chosen), text=[*text, *chosen], once=once)
        for name, value in chosen.items():
            known = [str(cell) for cell in table[name].dropna().unique()]
            if value not in known:
                raise unknown_name(f"value of the column {name}", value, known)
            is_wanted = (table[name] == value).fillna(False)
            table = table[is_wanted].reset_index(drop=True)
        try:
            tables.append(name_columns(table, names))
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
    kinds = {has_trials(table) for table in tables}
    if len(kinds) > 1:
        raise InputError(
            f"some of the files hold trials and some hold proportions ({name_ids(files)}); analyze "
            "them one kind at a time."
        )
    table = pd.concat(tables, ignore_index=True)
    if "experiment" in table.columns and table["experiment"].nunique() > 1:
        starts = table["experiment"] + " "
        table["participant"] = starts + table["participant"]
    return table


def name_columns(table: pd.DataFrame, columns: Mapping[str, str] | None = None) -> pd.DataFrame:
    """Rename the columns of a table by their roles, and add optional columns.

    Parameters
    ----------
    table : pandas.DataFrame
        One row a trial or a proportion.
    columns : mapping of str to str, optional
        Role to column, where the two differ.

    Returns
    -------
    pandas.DataFrame
        A copy. Names are text without blanks around them; model, observer and phase are always
        there. A column that has the name of a role but not the role is kept as ``<name>_in_file``.

    Raises
    ------
    InputError
        When columns are missing, the table is empty, or an observer is neither human nor network.
    """
    given = dict(columns or {})
    there = list(table.columns)
    proportions = [name for name in PROPORTION_NAMES if name in there]
    if proportions and "proportion" not in given and "response" not in {*given, *there}:
        given["proportion"] = proportions[0]
    source = {role: given.get(role, role) for role in ROLES}
    needed = PROPORTION_ROLES if source["proportion"] in there else TRIAL_ROLES
    wanted = [*given.values(), *(source[role] for role in needed)]
    lost = [name for name in dict.fromkeys(wanted) if name not in there]
    if lost:
        raise InputError(
            f"the table lacks the column(s) {', '.join(lost)}; it has "
            f"{', '.join(map(str, there))}. Needed are {', '.join(TRIAL_ROLES)} (trials) "
            f"or {', '.join(PROPORTION_ROLES)} (proportions); name a column of another name with "
            "ROLE=NAME (--columns)."
        )
    if table.empty:
        raise InputError("the table has no rows; give one with trials or proportions.")
    out = table.copy()
    for role, name in source.items():
        if name != role and role in there:
            out = out.rename(columns={role: f"{role}_in_file"})
    for role, name in source.items():
        if name not in there:
            continue
        out[role] = table[name]
        if role in TEXT_ROLES:
            text = table[name].astype("object").where(table[name].notna(), "")
            out[role] = text.astype(str).str.strip().astype("object")
    return _fill(out)


def _fill(table: pd.DataFrame) -> pd.DataFrame:
    """Fill in model, observer and phase; drop the name of a file's column that took a role."""
    if "model" not in table.columns:
        table["model"] = ALL_MODELS
        # A condition that goes with several stages is a second factor; one of a single stage only
        # names that stage.
        if "condition" in table.columns:
            n_stages = table.groupby("condition")["stage"].nunique()
            if (n_stages > 1).any():
                table["model"] = table["condition"]
    for role, usual in (("observer", "human"), ("phase", "main")):
        table[role] = table.get(role, usual)
        table[role] = table[role].replace("", usual)
    observers = table["observer"].str.lower().replace(dict(KIND_WORDS))
    table["observer"] = observers.tolist()
    for role, known in (("observer", KINDS), ("phase", PHASES)):
        for name in table[role].unique():
            if name not in known:
                raise unknown_name(role, name, known)
    n_nameless = int((table["participant"] == "").sum())
    if n_nameless:
        raise InputError(f"{n_nameless} rows name no participant; fill the column in.")
    is_bare = (table["stage"] == "") & (table["phase"] == "main")
    has_model = ~table["model"].isin(["", ALL_MODELS])
    n_lost = int((is_bare & has_model).sum())
    if n_lost:
        raise InputError(f"{n_lost} rows name a model but no stage; fill the column in.")
    table.loc[is_bare, "stage"] = NATURAL
    return table


def has_trials(table: pd.DataFrame) -> bool:
    """Return whether a table holds trials, not proportions.

    Parameters
    ----------
    table : pandas.DataFrame
        As from `read_recognition`.

    Returns
    -------
    bool
        True for trials.
    """
    return "proportion" not in table.columns


# ---------------------------------------------------------------------------------------- screening


@checked_with(
    tables={
        "table": Columns(
            "the table of trials",
            "Read it with read_recognition.",
            ("participant", "observer", "phase", "stimulus", "model", "stage", "truth", "response"),
        )
    }
)
def screen_trials(
    table: pd.DataFrame,
    rules: Screening | None = None,
    *,
    categories: Sequence[str] = CATEGORIES,
    rt_unit: str = "ms",
    missing: str = "exclude",
    strict: bool = False,
    ignore_case: bool = False,
) -> Screened:
    """Leave out trials and people by fixed rules; count and name everything that is left out.

    Parameters
    ----------
    table : pandas.DataFrame
        Trials as from `read_recognition`.
    rules : Screening, optional
        The rules; the default ones when not given.
    categories : sequence of str
        What can be answered, in the order of confusion matrices; by default the 16 of
        `stimuli_gen.CATEGORIES`.
    rt_unit : {"ms", "s"}
        Unit of the column rt.
    missing : {"exclude", "wrong"}
        Whether a trial without an answer is left out or counts as wrong.
    strict : bool
        Refuse repeated trials, answers outside the categories and missing response times instead of
        leaving the trials out.
    ignore_case : bool
        Take answers and true categories that differ from `categories` in upper and lower case only
        for these.

    Returns
    -------
    Screened
        Trials with the column ``correct`` (bool) and ``rt`` in ms; networks are not screened, but
        their unusable trials are left out too.

    Raises
    ------
    InputError
        When a true category is unknown, an answer differs from a category in case only (without
        `ignore_case`), a response time is no number, nothing is left, or `strict` finds what it
        refuses.

    Notes
    -----
    Feather et al. (2023): 16 practice trials, 12 screening trials of which 7 must be right, 400
    trials, 16 catch trials. Of two trials of one observer, image, model and stage the first is
    kept.

    Examples
    --------
    >>> from neurometamer.behavior.curves import simulate_recognition
    >>> trials = simulate_recognition({"resnet": {"late": 0.3}}, n_people=2, careless=[1.0], seed=1)
    >>> screened = screen_trials(name_columns(trials))
    >>> screened.participants["included"].tolist()
    [True, True, False]
    """
    rules = rules or Screening()
    if missing not in ("exclude", "wrong"):
        raise unknown_name("rule for missing answers", missing, ("exclude", "wrong"))
    spelled, notes = _in_one_case(table, categories, ignore_case)
    trials = _with_times(spelled, rt_unit)
    main = trials[trials["phase"] == "main"].reset_index(drop=True)
    if main.empty:
        phases = name_ids(trials["phase"].unique())
        raise InputError(
            f"the table holds no main trials (phases: {phases}); mark them as main in the column "
            "phase, or leave the column out."
        )
    for name in main["truth"].unique():
        if name not in categories:
            raise unknown_name("true category", name, categories)
    reasons = _trial_reasons(main, rules, categories, missing)
    answers = main.loc[reasons["reason"] == OUTSIDE, "response"].value_counts()
    outside = name_ids(f"'{answer}' ({n})" for answer, n in answers.items())
    refused = reasons.loc[reasons["reason"].isin(REFUSED), "reason"].value_counts()
    if strict and len(refused):
        words = "; ".join(f"{n} trials: {reason}" for reason, n in refused.items())
        odd = f" ({outside})" if outside else ""
        raise InputError(
            f"--strict: {words}{odd}; correct the table, or leave out --strict to drop them."
        )
    people, rule_notes = _people(trials, main, reasons, rules)
    notes += rule_notes
    if outside:
        notes.append(f"answers outside the categories: {outside}")
    if "rt" not in table.columns:
        notes.append("no response times: no trial or person is left out as too fast")
    keys = ["observer", "participant"]
    included = people.loc[people["included"], keys]
    usable = main[reasons["reason"] == ""].merge(included, on=keys)
    if usable.empty:
        why = name_ids(people["reason"].unique())
        odd = f"; {notes[-1]}" if outside else ""
        raise InputError(
            f"no usable trial is left: {why}{odd}; relax the rules, or name all answers "
            "(--categories)."
        )
    is_right = usable["response"] == usable["truth"]
    lost = main[keys].assign(reason=reasons["reason"])
    lost = lost[lost["reason"] != ""].value_counts(sort=False).rename("n_trials").reset_index()
    left_out = people.loc[~people["included"], [*keys, "reason", "n_trials"]]
    both = [left_out.assign(what="observer"), lost.assign(what="trials")]
    exclusions = pd.concat(both, ignore_index=True)
    return Screened(
        trials=usable.assign(correct=is_right.to_numpy(dtype=bool)),
        participants=people,
        exclusions=exclusions.reindex(columns=list(EXCLUSION_COLUMNS)),
        notes=tuple(notes),
    )


REPEATED = "the same trial again"
OUTSIDE = "answer outside the categories"
NO_TIME = "no response time"
REFUSED = (REPEATED, OUTSIDE, NO_TIME)
"""Why a trial is left out, or refused by ``strict``."""
NO_ANSWER, TOO_FAST = "no answer", "too fast"


def read_numbers(column: pd.Series, what: str) -> pd.Series:
    """Read a column as numbers; only empty cells are missing.

    Parameters
    ----------
    column : pandas.Series
        Numbers or text.
    what : str
        Their name in messages.

    Returns
    -------
    pandas.Series
        Float64, NaN where a cell is empty.

    Raises
    ------
    InputError
        When a cell is no number, e.g. ``"0,512"``: a decimal comma and a comma between thousands
        look the same.

    Examples
    --------
    >>> read_numbers(pd.Series(["0.5", ""]), "response times").tolist()
    [0.5, nan]
    """
    numbers = pd.to_numeric(column, errors="coerce")
    text = column.astype("object").where(column.notna(), "").astype(str).str.strip()
    unread = text[numbers.isna() & (text != "")]
    wrong = unread[unread.str.lower() != "nan"]
    if len(wrong):
        comma = " with a decimal point" if wrong.str.contains(",", regex=False).any() else ""
        examples = wrong.unique()[:5]
        shown = ", ".join(f"'{cell}'" for cell in examples)
        raise InputError(
            f"{len(wrong)} of {len(column)} {what} are no numbers: {shown}; write them as "
            f"numbers{comma}, and leave the cell empty where there is none."
        )
    return numbers


def _in_one_case(
    table: pd.DataFrame, categories: Sequence[str], ignore_case: bool
) -> tuple[pd.DataFrame, list[str]]:
    """Refuse, or spell as the categories, what differs from them in case only."""
    spelling = {}
    for name in categories:
        spelling[name.casefold()] = name
    changed: dict[str, str] = {}
    spelled = table.copy()
    for role in ("response", "truth"):
        for word in table[role].unique():
            known = spelling.get(word.casefold(), word)
            if word not in categories and known != word:
                changed[word] = known
        spelled[role] = table[role].replace(changed)
    if not changed:
        return table, []
    pairs = [f"'{word}' for '{known}'" for word, known in changed.items()]
    examples = name_ids(pairs)
    if not ignore_case:
        raise InputError(
            "answers or true categories differ from the categories in upper and lower case only: "
            f"{examples}; write them alike, or take them for the same with --ignore-case."
        )
    return spelled, [f"taken for the same in upper and lower case: {examples}"]


def _with_times(table: pd.DataFrame, rt_unit: str) -> pd.DataFrame:
    """Return times in ms.

    A column of seconds read as milliseconds would leave out everybody as too fast.
    """
    if rt_unit not in RT_UNITS:
        raise unknown_name("unit of response times", rt_unit, RT_UNITS)
    if "rt" not in table.columns:
        return table.assign(rt=np.nan)
    times = read_numbers(table["rt"], "response times")
    times = times * RT_UNITS[rt_unit]
    usual = np.nan
    if times.notna().any():  # the median of none is a warning in older versions of pandas
        usual = float(times.median())
    if usual < 30 or usual > 300_000:
        raise InputError(
            f"response times have a median of {usual:g} ms, read as {rt_unit}; give the unit they "
            "have (--rt-unit)."
        )
    return table.assign(rt=times)


def _trial_reasons(
    main: pd.DataFrame, rules: Screening, categories: Sequence[str], missing: str
) -> pd.DataFrame:
    """Return why each main trial is left out (its first reason); empty where it is used."""
    keys = ["observer", "participant", "stimulus", "model", "stage"]
    times = main["rt"].to_numpy(dtype=float)
    is_human = (main["observer"] == "human").to_numpy()
    is_timed = is_human & np.isfinite(times).any()
    is_answered = (main["response"] != "").to_numpy()
    is_known = main["response"].isin(list(categories)).to_numpy()
    is_positive = times >= 0
    is_time = np.isfinite(times) & is_positive
    is_below = times < rules.fastest_ms
    is_fast = is_timed & is_below & is_answered & is_positive
    is_repeated = main.duplicated(keys).to_numpy()
    tests = {
        REPEATED: is_repeated,
        NO_ANSWER: ~is_answered & (missing == "exclude"),
        OUTSIDE: is_answered & ~is_known,
        NO_TIME: is_timed & is_answered & ~is_time,
        TOO_FAST: is_fast,
    }
    failed = list(tests.values())
    reason = np.select(failed, list(tests), default="").astype(object)
    is_useless = np.isin(reason, [OUTSIDE, NO_TIME])
    is_lost = ~is_answered | is_useless
    is_first = reason != REPEATED
    return pd.DataFrame(
        {
            "reason": reason,
            "lost": is_lost & is_first,
            "fast": is_fast & is_first,
        }
    )


def _people(
    trials: pd.DataFrame, main: pd.DataFrame, reasons: pd.DataFrame, rules: Screening
) -> tuple[pd.DataFrame, list[str]]:
    """Count what the rules need of each person and network; name the rule that leaves it out."""
    keys = ["observer", "participant"]
    own = main[keys].assign(
        n_trials=reasons["reason"] != REPEATED,
        n_usable=reasons["reason"] == "",
        n_missing=reasons["lost"],
        n_fast=reasons["fast"],
    )
    counts = own.groupby(keys, sort=False).sum().astype(int)
    everyone = pd.MultiIndex.from_frame(trials[keys].drop_duplicates())
    people = counts.reindex(everyone, fill_value=0).reset_index()
    is_human = people["observer"] == "human"
    least = {}
    notes = []
    for phase, share in (("screening", rules.min_screening), ("catch", rules.min_catch)):
        rows = trials[(trials["phase"] == phase) & (trials["observer"] == "human")]
        is_right = rows["response"] == rows["truth"]
        shares = is_right.groupby(rows["participant"]).mean()
        accuracy = people["participant"].map(shares).astype(float)
        people[f"{phase}_accuracy"] = accuracy.where(is_human)
        if rows.empty:
            notes.append(f"no {phase} trials: nobody is left out by them")
        else:
            least[phase] = share
    people["reason"] = [_why_out(row, rules, least) for row in people.to_dict("records")]
    return people.assign(included=people["reason"] == ""), notes


def _why_out(person: Mapping[Any, Any], rules: Screening, least: Mapping[str, float]) -> str:
    """Return the first rule that leaves a person out.

    A network is left out only when none of its trials can be used. `least` has the shares of the
    phases that the table holds.
    """
    if person["observer"] == "network":
        return "" if person["n_usable"] else "no usable trial"
    for phase, share in least.items():
        accuracy = person[f"{phase}_accuracy"]
        if not np.isfinite(accuracy):
            return f"no {phase} trials"
        if accuracy < share:
            return f"{phase} accuracy {accuracy:.3g} below {share:.3g}"
    for name, most in (("missing", rules.max_missing), ("fast", rules.max_fast)):
        share = person[f"n_{name}"] / max(person["n_trials"], 1)
        if share > most:
            return f"{share:.0%} {name} answers, more than {most:.0%}"
    if person["n_usable"] < rules.min_trials:
        return f"{person['n_usable']} trials, fewer than {rules.min_trials}"
    return ""


EXCLUSION_COLUMNS = ("what", "observer", "participant", "reason", "n_trials")


# ---------------------------------------------------------------------------------- rows to analyze


def spread_photographs(table: pd.DataFrame) -> pd.DataFrame:
    """Repeat rows that name no model (photographs) once for each model.

    Every curve begins with them.

    Parameters
    ----------
    table : pandas.DataFrame
        Trials or proportions.

    Returns
    -------
    pandas.DataFrame
        Every row names a model; the model is ``"all"`` when no row named one.

    Notes
    -----
    Feather et al. (2023) too show each person photographs once and plot them in the curve of every
    model. Error terms of the stage "photograph" are therefore shared by the models, in their
    analysis as here.
    """
    is_bare = table["model"] == ""
    if not is_bare.any():
        return table
    bare = table[is_bare]
    others = table[~is_bare]
    models = others["model"].unique().tolist()
    parts = []
    for name in models or [ALL_MODELS]:
        parts.append(bare.assign(model=name))
    parts.append(others)
    return pd.concat(parts, ignore_index=True)


def check_proportions(table: pd.DataFrame) -> None:
    """Refuse proportions that cannot be averaged.

    Parameters
    ----------
    table : pandas.DataFrame
        Proportions as from `read_recognition`.

    Raises
    ------
    InputError
        When a value is no number between 0 and 1, or one cell has two.
    """
    values = pd.to_numeric(table["proportion"], errors="coerce")
    is_text = values.isna() & table["proportion"].notna()
    wrong = table[is_text | (values < 0) | (values > 1)]
    if len(wrong):
        raise InputError(
            f"{len(wrong)} proportions are no numbers between 0 and 1: "
            f"{name_ids(wrong['proportion'])}; give shares of correct answers, not percentages."
        )
    keys = table[["observer", "participant", "model", "stage"]].agg(" / ".join, axis=1)
    again = duplicates(keys)
    if again:
        raise InputError(
            f"more than one proportion for {name_ids(again)}; keep one experiment, or name the "
            "column that tells them apart as model (--columns model=NAME)."
        )


# -------------------------------------------------------------------- answers of an experiment page


ANSWER_COLUMNS = (
    "participant",
    "trial",
    "block",
    "phase",
    "stimulus",
    "condition",
    "stage",
    "model",
    "truth",
    "response",
    "rt",
    "correct",
    "fixation_ms",
    "image_ms",
    "mask_ms",
    "dropped_frames",
    "refresh_hz",
    "repeated",
    "seed",
    "page_version",
    "user_agent",
)
"""Columns of the CSV that the page saves.

``rt`` is in ms from the frame at which the answer grid was drawn to the event that chose (key down,
or the end of a click or touch). ``fixation_ms``, ``image_ms`` and ``mask_ms`` are differences
between the time stamps of the frames at which each was drawn; ``dropped_frames`` counts the frames
missing between them at the measured ``refresh_hz``. ``repeated`` counts earlier starts of the trial
that were cut off because the page was hidden, reloaded or opened in another tab. After a part of
the kept answers was damaged it is at least 1 for every image without an answer."""
KEY_COLUMNS = (
    "code",
    "phase",
    "id",
    "reference_id",
    "truth",
    "condition",
    "stage",
    "model",
    "file",
    "page_version",
)
_JOINED = ("truth", "condition", "stage", "model")
_NUMBERS = (
    "trial",
    "block",
    "rt",
    "fixation_ms",
    "image_ms",
    "mask_ms",
    "dropped_frames",
    "refresh_hz",
    "repeated",
)


def read_text(path: str | Path, required: Sequence[str]) -> pd.DataFrame:
    """Read a CSV file with every cell as text, so that participant 001 stays 001.

    Parameters
    ----------
    path : path-like
        The file.
    required : sequence of str
        Columns that it must have.

    Returns
    -------
    pandas.DataFrame
        All columns as text; empty cells are empty text.

    Raises
    ------
    InputError
        When the file is missing, empty, or lacks columns.
    """
    read_table(path, required)
    return pd.read_csv(
        path,
        dtype=str,
        keep_default_na=False,
    )


@checked
def join_key(answers: Sequence[str | Path] | str | Path, key: str | Path) -> pd.DataFrame:
    """Add the contents of the key to the answers of one or several participants.

    Parameters
    ----------
    answers : path-like or sequence of path-like
        CSV files that the page saved. A trial that is in several of them (saved in between and at
        the end) counts once. Of two answers to one trial that differ in ``repeated``, the one to
        the earlier showing counts.
    key : path-like
        ``key.csv`` of the same page.

    Returns
    -------
    pandas.DataFrame
        `ANSWER_COLUMNS`, one row a trial, ordered by participant and trial, with ``truth``,
        ``condition``, ``stage``, ``model`` and ``correct`` (0 or 1) of all phases; ``stimulus`` is
        the id now. Then ``reference_id`` and ``code``, the file name in the page.

    Raises
    ------
    InputError
        When a file is not of this page, names an image that the key lacks or an unknown category,
        or two files disagree about a trial.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import pandas as pd
    >>> from neurometamer.behavior import join_key
    >>> from neurometamer.behavior.trials import ANSWER_COLUMNS, KEY_COLUMNS
    >>> image = {"code": "5f2c", "id": "rex", "truth": "dog", "condition": "late"}
    >>> image = {**dict.fromkeys(KEY_COLUMNS, "a"), **image}
    >>> answer = {"participant": "P01", "stimulus": "5f2c", "response": "dog", "page_version": "a"}
    >>> answer = {**dict.fromkeys(ANSWER_COLUMNS, "1"), **answer}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     pd.DataFrame([image]).to_csv(Path(folder, "key.csv"), index=False)
    ...     pd.DataFrame([answer]).to_csv(Path(folder, "P01.csv"), index=False)
    ...     table = join_key(Path(folder, "P01.csv"), Path(folder, "key.csv"))
    >>> table[["participant", "stimulus", "condition", "response", "correct"]].values.tolist()
    [['P01', 'rex', 'late', 'dog', 1]]
    """
    paths = [answers] if isinstance(answers, str | Path) else list(answers)
    if not paths:
        raise InputError("no answers given; name the CSV files that the page saved.")
    known = read_text(key, KEY_COLUMNS).set_index("code")
    must_be_known = {
        "page_version": (
            set(known["page_version"]),
            "was saved by another page (version {names}); give the key of that page.",
        ),
        "stimulus": (
            set(known.index),
            "names images that the key lacks: {names}; was one of them edited? Give the files as "
            "the page saved them.",
        ),
        "response": (
            set(CATEGORIES),
            "has answers that are none of the 16 categories: {names}; was it edited? Give the file "
            "as the page saved it.",
        ),
    }
    parts = []
    for path in paths:
        part = read_text(path, ANSWER_COLUMNS)[list(ANSWER_COLUMNS)]
        for column, (values, problem) in must_be_known.items():
            others = sorted(set(part[column]) - values)
            if others:
                raise InputError(f"{path} {problem.format(names=name_ids(others))}")
        parts.append(part)
    table = pd.concat(parts, ignore_index=True).drop_duplicates()
    # of several answers to one trial, keep those to the showing that was repeated least often
    repeated = read_numbers(table["repeated"], "numbers in the column repeated")
    least = repeated.groupby([table["participant"], table["trial"]]).transform("min")
    table = table[repeated == least]
    again = duplicates(table["participant"] + " trial " + table["trial"])
    if again:
        raise InputError(
            f"two files disagree about {name_ids(again)}; did two people use one participant code? "
            "Give one of them."
        )
    table = table.reset_index(drop=True)
    rows = known.loc[table["stimulus"]].reset_index()
    for name in _JOINED:
        table[name] = rows[name]
    table["stimulus"] = rows["id"]
    table["reference_id"] = rows["reference_id"]
    table["code"] = rows["code"]
    table["correct"] = (table["response"] == table["truth"]).astype(int)
    for name in _NUMBERS:
        table[name] = read_numbers(table[name], f"numbers in the column {name}")
    return table.sort_values(["participant", "trial"], kind="stable", ignore_index=True)

"""Read the tables, stimuli, RDMs and provenance of a study folder.

Absent parts are empty and no error.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from neurometamer.errors import FolderInUse, InputError, name_ids
from neurometamer.figures.style import KINDS
from neurometamer.figures.tables import is_true, names_as_text
from neurometamer.provenance import digest_file
from neurometamer.resume import read_record, refuse_links_out, who_holds
from neurometamer.rsa.compute import read_rdms
from neurometamer.store import file_name, read_json, read_table
from neurometamer.summaries import short_repr

if TYPE_CHECKING:
    from rsatoolbox.rdm import RDMs

    from stimuli_gen.stimuli import StimulusSet

STATE = ".state"
"""Folder, inside the study's, of the step records and of what only later steps read."""

LOCK = f"{STATE}/lock"
"""File, inside the study's folder, that a process holds while it works there."""

ALPHA = 0.05
"""Corrected p below it make a statement, as the marks of the figures do."""

CHOSEN = "voxels chosen by other images than the regular ones"
"""What numbers of a brain must say whose voxels were chosen on images under test."""

TABLES: dict[str, tuple[str, ...]] = {
    "transfer": (
        "evaluator",
        "kind",
        "n",
        "says_target",
        "target_probability",
        "says_as_photograph",
    ),
    "metamers": (
        "set",
        "id",
        "reference_id",
        "evaluator",
        "evaluator_says",
        "evaluator_says_photograph",
        "p_photograph",
        "same_class",
        "top5",
        "p",
        "success",
    ),
    "controversial": (
        "made_for",
        "id",
        "reference_id",
        "disagreement",
        "network_a",
        "network_b",
        "criterion",
        "steps",
        "success",
    ),
    "divergent": (
        "made_for",
        "id",
        "reference_id",
        "network_a",
        "network_b",
        "spearman_a",
        "spearman_b",
        "above_null_a",
        "unlike_b",
        "steps",
        "success",
    ),
    "eigendistortion": (
        "made_for",
        "id",
        "reference_id",
        "model",
        "stage",
        "end",
        "rank",
        "eigenvalue",
        "rayleigh_png",
        "rayleigh_random",
        "null_dimension",
        "null_dimension_is_exact",
        "success",
    ),
    "failures": ("generator", "made_for", "id", "reference_id", "why_not", "what_to_try"),
    "image_types": (
        "system",
        "subject",
        "representation",
        "pair",
        "quantity",
        "value",
        "ci_low",
        "ci_high",
        "interval",
        "p",
        "p_corrected",
        "correction",
        "family",
        "method",
        "n",
    ),
    "betas": (
        "subject",
        "program",
        "per",
        "n_responses",
        "n_shapes",
        "share_at_ends",
        "hrf_r2",
        "hrf_r2_glover",
        "n_noise",
        "n_pool",
        "noise_r2_none",
        "noise_r2_chosen",
        "fraction_q1",
        "fraction_median",
        "fraction_q3",
        "less_error",
        "chosen_on_all_runs",
    ),
    "regions": ("subject", "roi", "n_voxels", "n_selected", "reliability", "reliability_selected"),
    "ceilings": ("subject", "roi", "image_type", "nc", "r"),
    "trends": ("pair", "test", "statistic", "effect", "p", "n"),
    "layer_roi": ("subject", "roi", "layer", "similarity"),
    "best_layer": (
        "subject",
        "roi",
        "layer",
        "score",
        "ci_low",
        "ci_high",
        "naive_layer",
        "naive_score",
    ),
    "weighted": ("subject", "roi", "model", "score", "ci_low", "ci_high", "p", "q", "family"),
    "weighted_difference": (
        "subject",
        "roi",
        "contrast",
        "difference",
        "ci_low",
        "ci_high",
        "p",
        "q",
        "family",
    ),
    "hierarchy": ("subject", "order", "preferred_layers", "statistic", "value", "p", "method"),
    "encoding": ("subject", "roi", "layer", "test", "r"),
    "recovery": ("what", "planted", "found", "pass"),
}
"""The tables of a study and the columns without which the page cannot be made."""


@short_repr
@dataclass(frozen=True, kw_only=True)
class Study:
    """The parts of a study folder that exist; absent ones are empty.

    In the tables names are texts, and where there is one subject there is no mean over subjects.
    `made` are images on which networks disagree, by table and set of networks.
    `changed` names the files that are not as their step wrote them, see `changed_files`.
    """

    folder: Path
    provenance: Mapping[str, Any]
    tables: Mapping[str, pd.DataFrame]
    rdms: Mapping[str, RDMs]
    stimuli: StimulusSet | None
    recipe: str = ""
    metamers: Mapping[str, StimulusSet] = field(default_factory=dict)
    made: Mapping[str, Mapping[str, StimulusSet]] = field(default_factory=dict)
    changed: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        prepared = {}
        for name, table in self.tables.items():
            prepared[name] = names_as_text(table, *NAMES)
            if "subject" in table.columns:
                over = prepared[name]["subject"].isin(OVER_SUBJECTS)
                single = prepared[name][~over]
                subjects = set(single["subject"]) - {""}
                if len(subjects) == 1:  # the mean over subjects is that subject's
                    prepared[name] = single.reset_index(drop=True)
        object.__setattr__(self, "tables", prepared)

    @property
    def simulated(self) -> bool:
        """Whether any brain number comes from a simulation.

        Returns
        -------
        bool
            From the provenance (``brain.source``, ``brain.simulated``) and the column ``data`` of
            the tables.
        """
        brain = self.section("brain")
        if brain.get("source") == "simulated":
            return True
        if brain.get("simulated") is True:
            return True
        return "simulated" in self._values("data")

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of images that the study shows or compares.

        Returns
        -------
        tuple of str
            Of the stimuli, or of the RDMs where there are no stimuli; in the order of all figures.
        """
        if self.stimuli is not None:
            present = set(self.stimuli.table["kind"])
        else:
            present = set()
            for rdms in self.rdms.values():
                kinds = rdms.pattern_descriptors["kind"]
                present |= set(map(str, kinds))
        shown = [kind for kind in KINDS if kind in present]
        return tuple(shown)

    @property
    def n_photographs(self) -> int:
        """How many photographs the study shows.

        Returns
        -------
        int
            0 where there are no stimuli.
        """
        if self.stimuli is None:
            return 0
        return int(self.stimuli.table["reference_id"].nunique())

    @property
    def subjects(self) -> tuple[str, ...]:
        """The subjects.

        Returns
        -------
        tuple of str
            From the provenance, or from the tables where it names none.
        """
        named = self.section("brain").get("subjects")
        if isinstance(named, list) and named:
            return tuple(map(str, named))
        everyone: dict[str, None] = {}
        for rows in (
            self.rows("image_types", system="brain"),
            self.rows("layer_roi"),
            self.rows("encoding"),
        ):
            everyone |= dict.fromkeys(rows["subject"])
        everyone.pop("mean", None)
        return tuple(everyone)

    @property
    def cortex(self) -> str:
        """What the network is compared with, in words.

        Returns
        -------
        str
            Empty for a study of a network alone.
        """
        if self.simulated:
            return "a simulated cortex"
        n_rows = (
            len(self.rows("image_types", system="brain"))
            + len(self.rows("layer_roi"))
            + len(self.rows("encoding"))
        )
        has_brain = self.section("brain").get("source", "none") != "none"
        return "visual cortex" if has_brain or n_rows else ""

    @property
    def untrained(self) -> bool:
        """Whether the network has random weights.

        Returns
        -------
        bool
            From the provenance (``model.trained``) and the columns ``trained`` of the tables.
        """
        if self.section("model").get("trained") is False:
            return True
        values = self._values("trained") | self._values("network_trained")
        return not all(map(is_true, values))

    @property
    def network_stamp(self) -> str:
        """What every number of the network must be read with; empty for a trained one.

        Returns
        -------
        str
            From the provenance and from the columns of the tables.
        """
        return "untrained network (random weights)" if self.untrained else ""

    @property
    def brain_stamp(self) -> str:
        """What every number that rests on the brain must be read with.

        Returns
        -------
        str
            From the provenance and from the columns of the tables.
        """
        cortex = "simulated cortex" if self.simulated else ""
        chosen = "" if self.settings("selection").get("image_type", "RE") == "RE" else CHOSEN
        return " · ".join(filter(None, [cortex, chosen, self.network_stamp]))

    def stamp(self, *, brain: bool) -> str:
        """Return what a number of the brain, or of the network, must be read with.

        Parameters
        ----------
        brain : bool
            Whether the number rests on the brain.

        Returns
        -------
        str
            `brain_stamp` or `network_stamp`.
        """
        return self.brain_stamp if brain else self.network_stamp

    def _values(self, column: str) -> set[object]:
        """Collect the values that a column takes in any table."""
        values: set[object] = set()
        for table in self.tables.values():
            if column in table.columns:
                values |= set(table[column].dropna())
        return values

    def rows(self, name: str, **equal: str) -> pd.DataFrame:
        """Select rows of a table by the values of columns.

        Parameters
        ----------
        name : str
            One of `TABLES`.
        **equal : str
            Column and the value it must have.

        Returns
        -------
        pandas.DataFrame
            Empty when the table is not there.
        """
        if name in self.tables:
            table = self.tables[name]
        else:
            table = pd.DataFrame(columns=list(dict.fromkeys([*TABLES[name], *equal])))
        for column, value in equal.items():
            table = table[table[column] == value]
        return table

    def section(self, name: str) -> Mapping[str, Any]:
        """Return a part of the provenance.

        Parameters
        ----------
        name : str
            E.g. ``"settings"``.

        Returns
        -------
        mapping
            Empty when it is not there.
        """
        value = self.provenance.get(name)
        return value if isinstance(value, Mapping) else {}

    def settings(self, name: str) -> Mapping[str, Any]:
        """Return a section of the settings.

        Parameters
        ----------
        name : str
            E.g. ``"rsa"``.

        Returns
        -------
        mapping
            Empty when it is not there.
        """
        value = self.section("settings").get(name)
        return value if isinstance(value, Mapping) else {}


def texts_of(rows: pd.DataFrame, column: str) -> list[str]:
    """List the different texts of a column, as they come.

    Parameters
    ----------
    rows : pandas.DataFrame
        With or without the column.
    column : str
        Its name.

    Returns
    -------
    list of str
        Without missing ones; empty where there is no such column.
    """
    if column not in rows.columns:
        return []
    return list(dict.fromkeys(rows[column].dropna().astype(str)))


def read_study(folder: str | os.PathLike[str]) -> Study:
    """Read what a study folder holds; parts that were not made are left empty.

    Parameters
    ----------
    folder : path-like
        With ``provenance.json`` or ``study.toml``, and any of ``tables/``, ``stimuli/`` and
        ``rdms/``.

    Returns
    -------
    Study
        The parts.

    Raises
    ------
    InputError
        When the folder is missing, is not a finished study, holds a file that cannot be read or a
        link that leads out of it, or another process works in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(
            f"{folder} is not a folder; give the folder that `neurometamer run` or `demo` wrote."
        )
    refuse_links_out(folder)
    if holder := who_holds(folder / LOCK):
        raise FolderInUse(
            f"{holder} is running the study in {folder}; wait until it has ended, then try again."
        )
    record, recipe = folder / "provenance.json", folder / "study.toml"
    if not record.is_file() and not recipe.is_file():
        if (folder / STATE / "study.json").is_file():
            raise InputError(
                f"the study in {folder} is not finished; go on with it by `neurometamer run`."
            )
        raise InputError(
            f"{folder} is not a study: it has neither provenance.json nor study.toml; give the "
            "folder that `neurometamer run` or `demo` wrote."
        )
    provenance = read_json(record) if record.is_file() else {}
    if not isinstance(provenance, dict):
        raise InputError(
            f"{record} holds a JSON {type(provenance).__name__}, not an object; run the study "
            "again."
        )
    tables = {}
    for name, columns in TABLES.items():
        path = folder / "tables" / f"{name}.csv"
        if path.is_file():
            tables[name] = read_table(path, columns)
    made = read_sets(folder, tables)
    return Study(
        folder=folder,
        provenance=provenance,
        tables=tables,
        rdms=dict(_read_rdms(folder)),
        stimuli=_read_stimuli(folder / "stimuli"),
        recipe=recipe.read_text(encoding="utf-8") if recipe.is_file() else "",
        metamers=made.pop("metamers"),
        made=made,
        changed=changed_files(folder),
    )


def read_sets(
    folder: Path, tables: Mapping[str, pd.DataFrame]
) -> dict[str, dict[str, StimulusSet]]:
    """Read the images that were made for sets of networks.

    Parameters
    ----------
    folder : Path
        Folder of the study.
    tables : mapping of str to DataFrame
        Its tables, which name the sets.

    Returns
    -------
    dict of str to dict of str to StimulusSet
        Key of `SETS` → set → images, as they are shown; without those whose folder is not there.
    """
    made: dict[str, dict[str, StimulusSet]] = {}
    for key, column in SETS.items():
        made[key] = {}
        for name in texts_of(tables.get(key, pd.DataFrame()), column):
            of_set = _read_stimuli(folder / key / file_name(name))
            if of_set is not None:
                made[key][name] = of_set
    return made


SETS = {
    "metamers": "set",
    "controversial": "made_for",
    "divergent": "made_for",
    "eigendistortion": "made_for",
}
"""Table, and folder of its images → column that names the sets, each a folder inside."""

SHOWN = ("tables", "stimuli", "rdms", *SETS, "provenance.json", "study.toml")
"""What a report shows of a study's folder: folders and files."""


def changed_files(folder: str | os.PathLike[str]) -> dict[str, str]:
    """Find the files of a study that are no longer as their step wrote them.

    Parameters
    ----------
    folder : path-like
        Folder of the study. Its step records hold a digest of each file; a folder without records
        has nothing to compare.

    Returns
    -------
    dict of str to str
        File, relative to the folder, to ``"changed"`` or ``"missing"``; only those that a report
        shows.
    """
    folder = Path(folder)
    known: dict[str, set[str]] = {}
    for record in sorted((folder / STATE / "steps").glob("*.json")):
        # A damaged record is noticed, and its step made again, by the next run.
        with contextlib.suppress(InputError):
            for name, value in read_record(record).get("outputs", {}).items():
                if set(Path(name).parts[:1]) & set(SHOWN):
                    known.setdefault(name, set()).add(value)
    changes = {}
    for name, values in known.items():
        if not (folder / name).is_file():
            changes[name] = "missing"
        elif digest_file(folder / name) not in values:
            changes[name] = "changed"
    return changes


NAMES = ("subject", "representation", "roi", "layer", "naive_layer", "what", "evaluator", "family")
"""Columns that hold names, so that a layer called 7 stays a name."""

OVER_SUBJECTS = ("mean", "combined")
"""What the rows over subjects are called in the column ``subject``."""


def _read_rdms(folder: Path) -> Iterator[tuple[str, RDMs]]:
    for system in ("network", "brain"):
        path = folder / "rdms" / f"{system}.h5"
        if not path.is_file():
            continue
        rdms = read_rdms(path)
        for name in ("reference_id", "kind"):
            if name not in rdms.pattern_descriptors:
                raise InputError(
                    f"{path} lacks the pattern descriptor {name!r}; it has "
                    f"{name_ids(rdms.pattern_descriptors)}. Run the study again."
                )
        yield system, rdms


def _read_stimuli(folder: Path) -> StimulusSet | None:
    if not folder.is_dir():
        return None
    from stimuli_gen.stimuli import read_stimuli

    return read_stimuli(folder, in_memory=None).as_shown()

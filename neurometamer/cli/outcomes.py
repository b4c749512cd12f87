"""What is printed when a command is done, and its exit code."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from neurometamer.cli.console import say
from neurometamer.errors import name_ids
from neurometamer.store import read_json

Given = Mapping[str, Any]


def print_outcome(command: str, result: Any, given: Given) -> int:
    """Print what a command gives.

    Parameters
    ----------
    command : str
        Words of the command.
    result : object
        What its function returned.
    given : mapping of str to object
        Arguments of the function.

    Returns
    -------
    int
        Exit code: 1 when a criterion was not met, 2 when a check found errors, else 0.
    """
    if command in OUTCOMES:
        return OUTCOMES[command](result, given) or 0
    say(result if isinstance(result, (Path, str)) else given["out"])
    return 0


def _study(report: Path, given: Given) -> None:
    """Name the images that did not meet their criterion, since the study went on with them."""
    from neurometamer.study.steps import failed_stimuli

    if failed := failed_stimuli(report.parent):
        say(
            f"note: these images did not meet their criterion: {name_ids(failed)}; see the report.",
            to_error=True,
        )
    say(report)


def _problems(problems: list[Any], given: Given) -> int:
    for problem in problems:
        say(f"{problem.kind}: {problem}", to_error=True)
    n_errors = sum(problem.kind == "error" for problem in problems)
    if n_errors:
        say(f"{given['study']}: {n_errors} thing(s) to correct.", to_error=True)
        return 2
    say(f"{given['study']}: nothing stands in the way.")
    return 0


def _images(table: pd.DataFrame, given: Given) -> int:
    out = given["out"]
    failed = table["id"][~table["success"].astype(bool)].tolist()
    n_met = len(table) - len(failed)
    say(f"{n_met} of {len(table)} images meet their criterion on the saved PNG: {out}")
    if failed:
        file = Path(out) / "stimuli.csv"
        say(f"not met: {name_ids(failed)}; see why_not in {file}", to_error=True)
    return 1 if failed else 0


def _disagreements(table: pd.DataFrame, given: Given) -> int:
    """Say what share failed and what may help; the reasons are in a table."""
    code = _images(table, given)
    failed = table[~table["success"].astype(bool)]
    for advice, part in failed.groupby("what_to_try", sort=False):
        share = f"{len(part)} of {len(table)} ({len(part) / len(table):.0%})"
        say(f"{share} failed: {advice}.", to_error=True)
    if code:
        say(f"reasons: {Path(given['out']) / 'failures.csv'}", to_error=True)
    return code


def _controls(table: pd.DataFrame, given: Given) -> None:
    fooled = ""
    if "success" in table:
        fooled = f", {int(table['success'].sum())} of them fool the network"
    say(f"{len(table)} images{fooled}: {given['out']}")


def _null(null: Any, given: Given) -> None:
    for name, rows in null.summary().groupby("stage", sort=False):
        largest = []
        for metric, value in zip(rows["metric"], rows["max"], strict=True):
            largest.append(f"{metric} {value:.3f}")
        values = ", ".join(largest)
        say(f"{name}: largest of {len(null.pairs)} pairs: {values}")
    say(given["out"])


def _image_types(table: pd.DataFrame, given: Given) -> None:
    for row in table[table["quantity"] == "difference"].to_dict("records"):
        subject, representation = row["subject"], row["representation"]
        low, high = row["ci_low"], row["ci_high"]
        name = f"{subject} {representation}".strip()
        interval = f"[{low:.3f}, {high:.3f}]"
        say(f"{name}: {row['value']:+.3f} {interval} {row['answer']}", to_error=True)
    if given.get("interval") == "subsample":
        from neurometamer.rsa.subsample import SUBSAMPLE_WARNING

        say(f"note: interval 'subsample': {SUBSAMPLE_WARNING}.", to_error=True)
    say(given["out"])
    if given.get("figures") is not None:
        say(given["figures"] / "index.html")


def _scan(design: Any, given: Given) -> None:
    """Say how long the runs are and what noise to expect."""
    runs = design.runs
    minutes = runs["seconds"].sum() / 60
    n_trials = runs["n_trials"].iloc[0]
    say(f"{len(runs)} runs, {minutes:.0f} min in all; {n_trials} trials in the first")
    for name in ("noise_gain_trial", "noise_gain_image", "efficiency"):
        values = runs[name]
        words = name.replace("_", " ")
        if values.isna().all():
            say(f"{words}: not defined, as no run shows two image types")
        else:
            say(f"{words}: {values.min():.3g} to {values.max():.3g}")
    noise = design.images["predicted_noise"].median()
    say(f"noise of the mean beta of an image: {noise:.3g} of that of a volume")
    say(given["out"])


def _index(folder: Path, given: Given) -> None:
    say(folder / "index.html")


def _page_with_notes(page: Path, given: Given) -> None:
    """Print the notes in the record beside the page."""
    folder = page.parent
    record = folder / "draw.json"
    if not record.is_file():
        record = folder / "provenance.json"
    for note in read_json(record)["notes"]:
        say(f"note: {note}", to_error=True)
    say(page)


def _jobs(jobs: pd.DataFrame, given: Given) -> int:
    """Count the jobs by their state; the exit code is 1 when one failed."""
    counts = jobs["state"].value_counts()
    parts = [f"{number} {state}" for state, number in counts.items()]
    say(", ".join(parts))
    failed = jobs[jobs["state"] == "failed"]
    for name, reason in zip(failed["set"], failed["reason"], strict=True):
        say(f"{name}: {reason}", to_error=True)
    if "out" in given:  # they were planned
        say(f"next: neurometamer evaluate run-sets {given['out']} --images PHOTOGRAPHS")
    return 0 if failed.empty else 1


def _checked_table(result: tuple[pd.DataFrame, Mapping[str, Any]], given: Given) -> None:
    rows, totals = result
    for name, value in totals.items():
        words = name.replace("_", " ")
        say(f"{words}: {value:g}")
    exceeding = rows["network"][rows["exceeds"]].astype(str)
    names = ", ".join(exceeding) or "none"
    say(f"exceed 1.96 standard errors: {names}")
    if given.get("out") is not None:
        say(given["out"])


def _page(key: pd.DataFrame, given: Given) -> None:
    main = key[key["phase"] == "main"]
    n_images = main["reference_id"].nunique()
    n_conditions = main["condition"].nunique()
    out = Path(given["out"])
    say(f"{n_images} images in {n_conditions} conditions, {len(key)} files.")
    say(f"Publish or open: {out / 'page' / 'index.html'}")
    say(f"Keep to yourself: {out / 'key.csv'}")


def _joined(table: pd.DataFrame, given: Given) -> None:
    n_people = table["participant"].nunique()
    out = given.get("out", "answers.csv")
    say(f"{len(table)} trials of {n_people} participants: {out}")


def _fetched(files: list[Path], given: Given) -> None:
    for file in files:
        say(file)


def _network(check: Any, given: Given) -> int:
    """Tell what a network is; the exit code is 1 when something is not as its entry says."""
    for line in check.describe():
        say(line)
    for problem in check.problems:
        say(f"not as it should be: {problem}", to_error=True)
    return 1 if check.problems else 0


def _layout(layout: Any, given: Given) -> int:
    """Say what a data set holds; the exit code is 2 when nothing of it can be used."""
    for line in layout.describe():
        say(line)
    if given.get("out") is not None:
        say(given["out"])
    return 0 if layout.usable.any() else 2


OUTCOMES: Mapping[str, Callable[[Any, Given], int | None]] = {
    "demo": _study,
    "run": _study,
    "check": _problems,
    "stimuli noise": _images,
    "stimuli interference": _images,
    "stimuli metamer": _images,
    "stimuli controversial": _disagreements,
    "stimuli divergent": _disagreements,
    "stimuli eigendistortion": _disagreements,
    "stimuli control": _controls,
    "stimuli null": _null,
    "image-types": _image_types,
    "layers": _index,
    "fmri design": _scan,
    "searchlight": _index,
    "draw": _page_with_notes,
    "evaluate metamers": _page_with_notes,
    "evaluate sets": _page_with_notes,
    "evaluate plan-sets": _jobs,
    "evaluate run-sets": _jobs,
    "evaluate check-table": _checked_table,
    "models fetch": _fetched,
    "models check": _network,
    "fmri layout": _layout,
    "behavior page": _page,
    "behavior join": _joined,
}
"""Command to what is printed of its result; of others the path is."""

"""Measure the bars: ``python -m benchmarks [--only P1,P2] [--quick] [--out FOLDER]``."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault(
    "OMP_WAIT_POLICY", "PASSIVE"
)  # as the command line does: idle threads burn no CPU time
os.environ.setdefault("TQDM_DISABLE", "1")

from benchmarks.bars import NotAvailable, Row, Setup
from benchmarks.registry import BARS
from benchmarks.table import show, store

_HERE = Path(__file__).resolve().parent


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Measure what the project promises."
    )
    parser.add_argument("--only", default=",".join(BARS), help=f"some of {','.join(BARS)}")
    parser.add_argument(
        "--quick", action="store_true", help="small sizes, minutes in all; not to be quoted"
    )
    parser.add_argument(
        "--out", type=Path, default=_HERE, help="folder for results/*.json and RESULTS.md"
    )
    asked = parser.parse_args(arguments)
    asked.only = [one.strip() for one in asked.only.split(",") if one.strip()]
    if unknown := [one for one in asked.only if one not in BARS]:
        parser.error(f"no bar {', '.join(unknown)}; there are {', '.join(BARS)}")
    return asked


def _data() -> Path | None:
    """Find the real data sets where the tests look for them."""
    folder = Path(os.environ.get("NEUROMETAMER_TEST_DATA", _HERE.parents[1] / "shared" / "data"))
    return folder if (folder / "photos_ccby" / "labels.csv").is_file() else None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the bars one after another; each is stored when it is done.

    Parameters
    ----------
    arguments : sequence of str, optional
        By default those of the command line.

    Returns
    -------
    int
        1 when a bar could not be run to its end; a bar that is missed is a result.
    """
    asked = _parse(arguments)
    failed = []
    for name in asked.only:
        bar = BARS[name]
        cpu, wall = time.process_time(), time.perf_counter()
        with tempfile.TemporaryDirectory() as scratch:
            try:
                rows = list(bar.run(Setup(quick=asked.quick, data=_data(), scratch=Path(scratch))))
            except NotAvailable as error:
                rows = [Row(what=bar.title, value=None, note=str(error))]
            except Exception as error:  # the other bars are still of use
                traceback.print_exc()
                failed.append(name)
                rows = [
                    Row(
                        what=bar.title,
                        value=None,
                        note=f"failed: {type(error).__name__}: {error}"[:200],
                    )
                ]
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        store(asked.out, name, bar.title, rows, quick=asked.quick, cpu_s=cpu, wall_s=wall)
        show(name, bar.title, rows)
    if failed:
        print(f"could not be run: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

"""Fair times: methods in turn in one process, CPU and wall seconds, medians.

CPU seconds (all threads of this process) are told first: other work on the machine lengthens wall
time much more. A step's cost is the difference between a long and a short run, divided by the steps
between them, so that setting up and judging, which every method does once, do not count.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Times:
    """Times of one method.

    Attributes
    ----------
    cpu, wall : float
        Seconds: of a step, or of the call.
    whole_cpu : float
        CPU seconds of the whole call.
    result : object
        What the last call returned.
    """

    cpu: float
    wall: float
    whole_cpu: float
    result: Any


def clocked(call: Callable[[], Any]) -> tuple[float, float, Any]:
    """Time a call.

    Parameters
    ----------
    call : callable
        Without arguments.

    Returns
    -------
    cpu, wall : float
        Seconds.
    result : object
        What it returned.
    """
    gc.collect()
    cpu, wall = time.process_time(), time.perf_counter()
    result = call()
    return time.process_time() - cpu, time.perf_counter() - wall, result


def interleave(cases: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, Times]:
    """Time whole calls, in turn.

    Parameters
    ----------
    cases : mapping of str to callable
        Name to call.
    repeats : int
        Rounds; each method once a round.

    Returns
    -------
    dict of str to Times
        Medians.
    """
    found: dict[str, list[tuple[float, float, Any]]] = {name: [] for name in cases}
    for _ in range(repeats):
        for name, call in cases.items():
            found[name].append(clocked(call))
    return {
        name: Times(
            cpu=statistics.median(one[0] for one in runs),
            wall=statistics.median(one[1] for one in runs),
            whole_cpu=statistics.median(one[0] for one in runs),
            result=runs[-1][2],
        )
        for name, runs in found.items()
    }


def per_step(
    cases: Mapping[str, Callable[[int], Any]], *, short: int, steps: int, repeats: int
) -> dict[str, Times]:
    """Time a step of each method, in turn.

    Parameters
    ----------
    cases : mapping of str to callable
        Name to call, which takes the number of steps.
    short : int
        Steps of the run that is subtracted.
    steps : int
        Steps between the short and the long run, by which the difference is divided.
    repeats : int
        Rounds.

    Returns
    -------
    dict of str to Times
        Medians over the rounds; the result is that of the long run.
    """
    found: dict[str, list[Times]] = {name: [] for name in cases}
    for _ in range(repeats):
        for name, call in cases.items():
            cpu0, wall0, _ = clocked(lambda: call(short))  # noqa: B023 - called at once
            cpu, wall, result = clocked(lambda: call(short + steps))  # noqa: B023
            found[name].append(
                Times(
                    cpu=(cpu - cpu0) / steps,
                    wall=(wall - wall0) / steps,
                    whole_cpu=cpu,
                    result=result,
                )
            )
    return {
        name: Times(
            cpu=statistics.median(one.cpu for one in runs),
            wall=statistics.median(one.wall for one in runs),
            whole_cpu=statistics.median(one.whole_cpu for one in runs),
            result=runs[-1].result,
        )
        for name, runs in found.items()
    }

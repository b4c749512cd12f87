"""Count what makes code comfortable to read; `make lint` fails beyond the bounds.

Bounds are what has been reached, so that it does not get worse; `GOALS` are what comparable
projects keep to (nilearn, plenoptic, himalaya, rsatoolbox). Folding lines to meet one of them
raises another.
"""

from __future__ import annotations

import ast
import statistics
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("neurometamer", "stimuli_gen", "fmri")
GOALS = {
    "syntax nodes a line of a function, median": 10.0,
    "syntax nodes a line of a function, 90th percentile": 15.0,
    "lines of code a function, median": 12,
    "lines of code a function, 90th percentile": 45,
    "lines of code a function, most": 80,
    "private functions that are used in one place": 350,
    "parameters of a public function, most": 12,
    "classes above a class of ours, most": 1,
}
BOUNDS = GOALS | {}
Function = ast.FunctionDef | ast.AsyncFunctionDef


def code_lines(node: Function, lines: list[str]) -> tuple[int, float]:
    """Count the lines of code of a function, and syntax nodes a line of its body.

    Parameters
    ----------
    node : FunctionDef
        The function.
    lines : list of str
        Of its file.

    Returns
    -------
    tuple of (int, float)
        Lines without docstring, comments and empty ones.
    """
    body = node.body[1:] if ast.get_docstring(node, clean=False) is not None else node.body
    if not body:
        return 1, 0.0
    held = [line.strip() for line in lines[body[0].lineno - 1 : body[-1].end_lineno]]
    n_lines = sum(bool(line) and not line.startswith("#") for line in held)
    n_nodes = sum(1 for statement in body for _ in ast.walk(statement))
    signature = body[0].lineno - node.lineno
    if len(body) < len(node.body):
        signature = node.body[0].lineno - node.lineno
    return signature + n_lines, n_nodes / max(n_lines, 1)


def functions(tree: ast.Module) -> Iterator[Function]:
    """Give the functions and methods of a module.

    Parameters
    ----------
    tree : Module
        Parsed.

    Yields
    ------
    FunctionDef
        Nested ones, too.
    """
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node


def used_once(trees: dict[str, ast.Module]) -> int:
    """Count private functions of modules whose name stands in one place beside its definition.

    Parameters
    ----------
    trees : dict of str to Module
        File to its parsed code.

    Returns
    -------
    int
        Called or named there: entries of tables and callbacks are counted, too.
    """
    named: Counter[str] = Counter()
    private = []
    for tree in trees.values():
        for node in ast.walk(tree):
            if isinstance(node, ast.Name):
                named[node.id] += 1
            elif isinstance(node, ast.Attribute):
                named[node.attr] += 1
            elif isinstance(node, ast.ImportFrom):
                named.update(alias.name for alias in node.names)
        for node in tree.body:
            if isinstance(node, Function) and node.name.startswith("_"):
                private.append(node.name)
    return sum(named[name] == 1 for name in private)


def most_parameters(trees: dict[str, ast.Module]) -> int:
    """Count the parameters of the public function or method that has most of them.

    Parameters
    ----------
    trees : dict of str to Module
        File to its parsed code.

    Returns
    -------
    int
        ``*args`` and ``**kwargs`` count one each, ``self`` and ``cls`` do not.
    """
    most = 0
    for tree in trees.values():
        owners: list[ast.Module | ast.ClassDef] = [tree]
        owners += [node for node in tree.body if isinstance(node, ast.ClassDef)]
        for owner in owners:
            for node in owner.body:
                if isinstance(node, Function) and not node.name.startswith("_"):
                    listed = node.args
                    named = [*listed.posonlyargs, *listed.args, *listed.kwonlyargs]
                    names = [parameter.arg for parameter in named]
                    names += [more.arg for more in (listed.vararg, listed.kwarg) if more]
                    most = max(most, len(set(names) - {"self", "cls"}))
    return most


def deepest(trees: dict[str, ast.Module]) -> int:
    """Count the classes of ours above a class.

    Parameters
    ----------
    trees : dict of str to Module
        File to its parsed code.

    Returns
    -------
    int
        The most; 0 where no class has a parent of ours.
    """
    parents: dict[str, list[str]] = {}
    for tree in trees.values():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                parents[node.name] = [base.id for base in node.bases if isinstance(base, ast.Name)]

    def _depth(name: str) -> int:
        above = [_depth(parent) + 1 for parent in parents[name] if parent in parents]
        return max(above, default=0)

    return max(map(_depth, parents))


def counts() -> dict[str, float]:
    """Count everything.

    Returns
    -------
    dict of str to float
        The names of `GOALS` to what was found.
    """
    listed = subprocess.check_output(["git", "ls-files", *PACKAGES], cwd=ROOT, text=True)
    files = [name for name in listed.splitlines() if name.endswith(".py")]
    sources = {name: (ROOT / name).read_text(encoding="utf-8") for name in files}
    trees = {name: ast.parse(text) for name, text in sources.items()}
    measured = []
    for name, tree in trees.items():
        lines = sources[name].splitlines()
        measured += [code_lines(node, lines) for node in functions(tree)]
    lengths, density = (sorted(column) for column in zip(*measured, strict=True))
    late = int(0.9 * (len(lengths) - 1))
    values = (
        statistics.median(density),
        density[late],
        statistics.median(lengths),
        lengths[late],
        lengths[-1],
        used_once(trees),
        most_parameters(trees),
        deepest(trees),
    )
    return dict(zip(GOALS, values, strict=True))


if __name__ == "__main__":
    found = counts()
    for what, value in found.items():
        print(f"{what}: {value:.4g} (bound {BOUNDS[what]:g}, goal {GOALS[what]:g})")
    over = [what for what, value in found.items() if value > BOUNDS[what]]
    sys.exit(f"beyond the bounds: {'; '.join(over)}" if over else 0)

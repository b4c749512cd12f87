"""The command line: parse, call, print, exit code; nothing else. Every command has a Python twin, named in its help."""

from __future__ import annotations

import errno
import sys
import traceback
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    help="Do this network and this visual cortex treat the same images as the same?",
)
stimuli_app = typer.Typer(no_args_is_help=True, help="Make adversarial images.")
models_app = typer.Typer(no_args_is_help=True, help="The networks known by name.")
fmri_app = typer.Typer(no_args_is_help=True, help="BOLD files in, patterns out.")
app.add_typer(stimuli_app, name="stimuli")
app.add_typer(models_app, name="models")
app.add_typer(fmri_app, name="fmri")


class Device(StrEnum):
    """Where the network runs."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"
    mps = "mps"


ModelName = Annotated[str, typer.Option("--model", help="A name of 'neurometamer models list'.")]
Weights = Annotated[str, typer.Option(help="'default' (ImageNet), 'random' (untrained), or a file.")]
DeviceName = Annotated[Device, typer.Option(help="Where the network runs.")]
Seed = Annotated[int, typer.Option(min=0, help="All random numbers derive from it.")]
Out = Annotated[Path, typer.Option("--out", help="Where to write.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


def main() -> None:
    """Run the command line: exit code 0 (done), 2 (the input cannot be used), 1 (a fault of ours), 130 (Ctrl-C).

    Raises
    ------
    SystemExit
        With the exit code.
    """
    from neurometamer.store import InputError

    debug = "--debug" in sys.argv
    arguments = [one for one in sys.argv[1:] if one != "--debug"]
    try:
        app(args=arguments, prog_name="neurometamer")
    except InputError as error:
        _fail(f"error: {error}", 2, debug)
    except KeyboardInterrupt:
        _fail("interrupted; what was finished is kept: run the same command again to go on.", 130, debug)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS, errno.EPERM):
            raise
        where = f" ({error.filename})" if error.filename else ""
        _fail(
            f"error: cannot write: {error.strerror}{where}; make room or choose another --out, "
            "and run the same command again: what was finished is kept.",
            2,
            debug,
        )


def _fail(message: str, code: int, debug: bool) -> None:
    if debug:
        traceback.print_exc()
    typer.echo(" ".join(message.split()), err=True)
    raise SystemExit(code)

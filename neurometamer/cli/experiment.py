"""The commands ``neurometamer behavior page`` and ``behavior join``.

They parse, call and print; nothing else.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from neurometamer.cli.options import one_of, one_step


def _paths(texts: list[str]) -> list[Path]:
    """Split at commas."""
    return [Path(path) for text in texts for path in text.split(",") if path]


def page(
    images: Annotated[
        list[str],
        typer.Option(
            help="Folders written by 'stimuli', or CSV files (file, id, category, condition); also "
            "A,B."
        ),
    ],
    photographs: Annotated[
        list[str],
        typer.Option(
            help="Photographs of other images, for practice, screening and catch trials: the same."
        ),
    ],
    out: Annotated[
        Path, typer.Option(help="Gets page/ (to be published) and key.csv (not to be).")
    ],
    title: Annotated[str, typer.Option(help="Of the page.")] = "What did you see?",
    consent: Annotated[Path | None, typer.Option(help="Text file for the first page.")] = None,
    post: Annotated[
        str,
        typer.Option(
            help="Address that takes the answers as CSV and replies with what it stored, "
            "unchanged; any other reply "
            "counts as not stored. Else they are saved as a file."
        ),
    ] = "",
    fixation_ms: Annotated[float, typer.Option(help="How long the fixation cross is shown.")] = 300,
    image_ms: Annotated[float, typer.Option(help="How long an image is shown.")] = 300,
    mask_ms: Annotated[float, typer.Option(help="How long the mask is shown.")] = 300,
    slow: Annotated[
        bool,
        typer.Option("--slow/--no-slow", help="500, 400 and 400 ms in the first half of practice."),
    ] = True,
    practice: Annotated[int, typer.Option(help="Photographs with feedback, first.")] = 16,
    screening: Annotated[int, typer.Option(help="Photographs that decide who goes on.")] = 12,
    pass_mark: Annotated[int, typer.Option(help="How many of these must be right.")] = 7,
    catch: Annotated[int, typer.Option(help="Photographs between the images.")] = 16,
    block_length: Annotated[int, typer.Option(help="Trials between breaks.")] = 100,
    backward_mask: Annotated[
        str,
        one_of(
            table="neurometamer.behavior.experiment:MASKS",
            help="'phase' (scrambled images) or 'noise'.",
        ),
    ] = "phase",
    incomplete: Annotated[
        str,
        one_of(
            "error",
            "photograph",
            help="An image lacks a condition: 'error', or show its 'photograph'.",
        ),
    ] = "error",
    seed: Annotated[int, typer.Option(min=0, help="All random numbers derive from it.")] = 0,
) -> None:
    """Write a folder that runs a 16-way recognition experiment in the browser.

    It needs neither server nor network.

    Open page/index.html (?participant=P01), or put page/ on any web server. Keep key.csv: 'behavior
    join' needs it.

    Python: neurometamer.write_experiment_page.
    """
    from neurometamer.behavior.experiment import write_experiment_page

    texts_given = {} if consent is None else {"consent": _read(consent)}
    with one_step("images and masks") as progress:
        key = write_experiment_page(
            _paths(images),
            _paths(photographs),
            out,
            progress=progress,
            title=title,
            post_url=post,
            seed=seed,
            fixation_ms=fixation_ms,
            image_ms=image_ms,
            mask_ms=mask_ms,
            slow_ms=(500, 400, 400) if slow else None,
            practice=practice,
            screening=screening,
            pass_mark=pass_mark,
            catch=catch,
            block_length=block_length,
            mask=backward_mask,
            missing=incomplete,
            **texts_given,
        )
    main = key[key["phase"] == "main"]
    typer.echo(
        f"{main['reference_id'].nunique()} images in {main['condition'].nunique()} conditions, "
        f"{len(key)} files.\n"
        f"Publish or open: {out / 'page' / 'index.html'}\nKeep to yourself: {out / 'key.csv'}"
    )


def join(
    answers: Annotated[list[str], typer.Option(help="CSV files that the page saved; also A,B.")],
    key: Annotated[Path, typer.Option(help="key.csv of that page.")],
    out: Annotated[Path, typer.Option(help="CSV file for 'behavior analyze'.")] = Path(
        "answers.csv"
    ),
) -> None:
    """Put truth, condition, stage and model from the key into the answers of all participants.

    Python: neurometamer.join_key.
    """
    from neurometamer.behavior.trials import join_key
    from neurometamer.store import write_table

    table = join_key(_paths(answers), key)
    write_table(out, table)
    typer.echo(f"{len(table)} trials of {table['participant'].nunique()} participants: {out}")


def _read(path: Path) -> str:
    from neurometamer.reading import reading

    with reading(path, "a consent text in UTF-8"):
        return path.read_text(encoding="utf-8")

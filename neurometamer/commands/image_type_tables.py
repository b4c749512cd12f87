"""The command ``neurometamer image-types``: files in, the tests of RE-AN and RE-AI out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from neurometamer.arguments import KeywordsOf, checked
from neurometamer.commands.rdms import conditions_table, read_pattern_files
from neurometamer.errors import InputError, name_ids
from neurometamer.reading import Files
from neurometamer.store import write_table

if TYPE_CHECKING:
    import pandas as pd
    from rsatoolbox.rdm import RDMs

    from neurometamer.rsa.image_types.options import ImageTypeOptions


@checked
def image_types(
    out: str | Path | None = None,
    *,
    rdms: Files = (),
    patterns: Files = (),
    activations: Files = (),
    images: Files = (),
    measure: str = "spearman",
    comparator: str = "spearman",
    category: str = "category",
    trends: str | Path | None = None,
    figures: str | Path | None = None,
    **settings: Annotated[
        Any,
        KeywordsOf(
            "neurometamer.rsa.image_types.options:ImageTypeOptions", without=("comparator",)
        ),
    ],
) -> pd.DataFrame:
    """Test RE-AN, RE-AI and their difference in each layer, ROI and subject, and over subjects.

    Parameters
    ----------
    out : path-like, optional
        CSV to write.
    rdms : sequence of path-like
        Files of ``neurometamer rdm``: all subjects of one study in one file.
    patterns : sequence of path-like
        Files of ``neurometamer fmri patterns``, one a subject.
    activations : sequence of path-like
        Files of activations, one a network (`neurometamer.compute_activations`).
    images : sequence of path-like
        Stimulus folders or tables (columns id, kind, reference_id): say what the rows of patterns
        and activations are, and give the classes of ``null="class"``.
    measure : str
        RDMs of patterns and activations are 1 - this correlation.
    comparator : str
        How RDMs are compared, one of `neurometamer.rsa.comparators.table.COMPARATORS`.
    category : str
        Column of `images` with the class.
    trends : path-like, optional
        CSV to write with the trends over the layers of the network (`image_type_trends`).
    figures : path-like, optional
        Folder for ``index.html``, ``image_types.csv``, and ``figures/`` with similarities and
        differences of brain and network, each as SVG, PNG and CSV.
    **settings : object
        Fields of `ImageTypeOptions`: interval, null, classes, combine, correction, family,
        n_resamples, n_permutations, seed …

    Returns
    -------
    pandas.DataFrame
        One row a layer or ROI, subject and quantity (`neurometamer.compare_image_types`), and a
        column ``source`` (file, or ``patterns``).

    Raises
    ------
    InputError
        When nothing was given, the input cannot be used, or figures are wanted of RDMs that name no
        system.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> import neurometamer as nm
    >>> kinds = np.repeat(["RE", "AN", "AI"], 6)
    >>> photographs = [f"photograph {number}" for number in range(6)] * 3
    >>> rdms = nm.rsa.label_rdms(
    ...     np.random.default_rng(0).random((1, 153)),
    ...     conditions=[f"{name} {kind}" for name, kind in zip(photographs, kinds)],
    ...     rdm_descriptors={"system": ["network"], "stage": ["late"]},
    ...     pattern_descriptors={"kind": kinds.tolist(), "reference_id": photographs},
    ...     measure="euclidean",
    ... )
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = nm.write_rdms(rdms, Path(folder) / "network.h5")
    ...     table = nm.commands.image_types(
    ...         Path(folder) / "tests.csv", rdms=[file], n_resamples=20, n_permutations=20
    ...     )
    >>> table[["representation", "pair"]].values.tolist()
    [['late', 'RE-AN'], ['late', 'RE-AI'], ['late', 'RE-AI minus RE-AN']]
    """
    import pandas as pd

    from neurometamer.rsa.image_types.inference import compare_image_types
    from neurometamer.rsa.image_types.options import ImageTypeOptions
    from neurometamer.rsa.image_types.similarity import image_type_trends

    if not (rdms or patterns or activations):
        raise InputError("nothing to compare; give --rdms, --patterns or --activations.")
    chosen = ImageTypeOptions(comparator=comparator, **settings)
    table = conditions_table({}, images) if images else None
    if table is None and (patterns or activations):
        raise InputError(
            "patterns and activations need --images: give a stimulus table that says which image "
            "is of which type."
        )
    classes = _classes(table, category, chosen)
    parts = []
    for source, held, known in _read(rdms, patterns, activations, table, measure, chosen):
        part = compare_image_types(held, categories=classes, **known)
        parts.append(part.assign(source=source))
    tested = pd.concat(parts, ignore_index=True)
    if trends is not None:
        networks = tested[tested["system"] == "network"]
        if networks.empty:
            raise InputError(
                "trends are over the layers of a network; give --activations, or RDMs of a network."
            )
        of_networks = []
        for name, part in networks.groupby("source", sort=False):
            of_networks.append(image_type_trends(part).assign(source=name))
        write_table(trends, pd.concat(of_networks, ignore_index=True))
    if out is not None:
        write_table(out, tested)
    if figures is not None:
        from neurometamer.report.image_types import write_image_type_figures

        used = {"measure": measure, "category": category}
        write_image_type_figures(
            figures,
            tested,
            options=chosen,
            settings=used,
            rdms=rdms,
            patterns=patterns,
            activations=activations,
            images=images,
        )
    return tested


def _read(
    rdms: Files,
    patterns: Files,
    activations: Files,
    table: pd.DataFrame | None,
    measure: str,
    chosen: ImageTypeOptions,
) -> Iterator[tuple[str, RDMs, dict[str, Any]]]:
    """Read what is compared: its source, its RDMs and what is known of how they were measured."""
    from neurometamer.activations import read_activations
    from neurometamer.rsa.compute import activation_rdms, pattern_rdms, read_rdms
    from neurometamer.rsa.image_types.ceilings import image_type_reliability
    from neurometamer.rsa.image_types.nulls import session_labels
    from neurometamer.rsa.subsample import activation_units, pattern_units

    by_session = chosen.null == "session"
    for file in rdms:
        held = read_rdms(file)
        has_sessions = any(name.startswith("session") for name in held.pattern_descriptors)
        if by_session and not has_sessions:
            raise InputError(
                f"{file}: these RDMs hold no sessions; give patterns (--patterns), or RDMs of "
                "patterns whose images were shown in different sessions."
            )
        yield Path(file).name, held, {"options": chosen}
    if table is None:
        return
    if patterns:
        subjects = read_pattern_files(patterns)
        blocks = None
        if by_session:
            blocks = {name: session_labels(own, table) for name, own in subjects.items()}
        reliability = image_type_reliability(subjects, table, sorted(chosen.image_types))
        known = {
            "units": pattern_units(subjects, table),
            "blocks": blocks,
            "reliability": reliability,
            "options": chosen,
        }
        yield "patterns", pattern_rdms(subjects, table, measure=measure), known
    for file in activations:
        responses = read_activations(file)
        known = {
            "units": activation_units(responses, table),
            # a network has no sessions
            "options": replace(chosen, null="free") if by_session else chosen,
        }
        yield Path(file).name, activation_rdms(responses, table, measure=measure), known


def _classes(
    table: pd.DataFrame | None, category: str, chosen: ImageTypeOptions
) -> dict[str, str] | None:
    """Give the class of each photograph where the table has classes.

    None stands for the classes that the RDMs know.
    """
    from neurometamer.rsa.image_types.nulls import class_labels, known_classes

    if chosen.null == "class":
        if table is None:
            raise InputError(
                f"null 'class' needs --images: a stimulus table with the column '{category}'."
            )
        return class_labels(table, category)
    if table is None:
        return None
    if category not in table.columns and category != DEFAULT_CATEGORY:
        raise InputError(
            f"--category: the table of --images has no column '{category}'; give one of "
            f"{name_ids(table.columns, 20)}."
        )
    return known_classes(table, category)


DEFAULT_CATEGORY = "category"
"""Column of the class where no other is named."""

"""The commented study file that ``neurometamer init`` writes.

It is made from the settings themselves, so that it cannot drift.
"""

from __future__ import annotations

import json
import re
import textwrap
from pathlib import Path
from typing import Any

from pydantic_core import PydanticUndefined

from neurometamer.arguments import checked
from neurometamer.errors import InputError
from neurometamer.store import write_text
from neurometamer.study.defaults import choices_of
from neurometamer.study.settings import Section, Simulation, StudySettings, fact

HEADER = """\
# A study: from images and BOLD files to a comparison report.
# Run it with:  neurometamer run {name}
# Every key is shown with its default and may be left out. File names are relative to this file.
# Settings outside [run] change numbers and are part of the study's identity.
"""

SUBJECT = """\
# Your own data in BIDS, preprocessed by fMRIPrep: set in [brain] above
# source = "bids"
# dataset = "bids"
# derivatives = "bids/derivatives/fmriprep"
# space = "T1w"
# subjects = ["01", "02"]
# rois = { V1 = "rois/sub-{subject}_V1.nii.gz", LO = "rois/sub-{subject}_LO.nii.gz" }
# id_column = "stim_file"     # where trial_type does not hold the image ids
# tedana = "bids/derivatives/tedana"  # for the strategy "tedana" of [glm]
# and look first at what there is: neurometamer fmri layout bids --derivatives …

# Or your own data file by file: set source = "bold" above, and give one such block a subject.
# [[brain.subjects]]
# id = "sub-01"
# bold = ["sub-01/func/sub-01_run-1_bold.nii.gz", "sub-01/func/sub-01_run-2_bold.nii.gz"]
# events = ["sub-01/func/sub-01_run-1_events.tsv", "sub-01/func/sub-01_run-2_events.tsv"]
# confounds = []
# masks = { V1 = "sub-01/masks/V1.nii.gz", LO = "sub-01/dseg.nii.gz:LO1 + sub-01/dseg.nii.gz:LO2" }
# resample = "nearest"        # where regions lie on another voxel grid
# space = "T1w"               # where names and headers of the images do not say it
# brain_mask = "sub-01/brain.nii.gz"  # for n_noise; regions beyond it are told
# t_r = 2.0                  # where header and JSON sidecar disagree
# slice_time_ref = 0.5        # where the JSON sidecars do not say it (StartTime)
# affine = "sform"            # where sform and qform of the headers disagree
# condition_column = "stim_file"  # where trial_type does not hold the image ids
# localizers = { lo = { bold = ["sub-01/loc_bold.nii.gz"], events = ["sub-01/loc_events.tsv"] } }

# Regions by contrasts of localizers, which the study estimates: with source = "bids", or "bold"
# and localizers above.
# contrasts = { objects = { contrast = "intact > scrambled", task = "lo" } }
# rois = { LO = "(objects > 3.1) - V1", V1 = "rois/sub-{subject}_V1.nii.gz" }

# Or responses that were estimated before, such as those of a published data set that
# neurometamer fmri convert has read: set source = "patterns" above.
# [[brain.subjects]]
# id = "sub-01"
# patterns = "sub-01_patterns.h5"
"""


def template(name: str = "study.toml") -> str:
    """Write out every setting with its meaning and default.

    Parameters
    ----------
    name : str
        File name shown in the header.

    Returns
    -------
    str
        TOML that reads back as the default settings.
    """
    parts = [HEADER.format(name=name)]
    for section, field in StudySettings.model_fields.items():
        text = _section(section, field.get_default())
        parts.append(text)
    return "\n".join(parts)


@checked
def write_template(path: str | Path = Path("study.toml")) -> Path:
    """Write the commented study file, never over an existing one.

    Parameters
    ----------
    path : path-like
        File to write.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    InputError
        When it exists.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from neurometamer import read_settings
    >>> from neurometamer.study import write_template
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = write_template(Path(folder) / "study.toml")
    ...     settings = read_settings(file)
    >>> settings.study.name
    'study'
    """
    path = Path(path)
    if path.exists():
        raise InputError(f"{path} exists; give another name, or remove it.")
    return write_text(path, template(path.name))


def _section(name: str, value: Section) -> str:
    description = " ".join((type(value).__doc__ or "").split())
    lines = [f"# {description}", f"[{name}]"]
    nested = []
    for key, field in type(value).model_fields.items():
        content = getattr(value, key)
        if isinstance(content, Section):
            nested.append(_section(f"{name}.{key}", content))
        else:
            meaning = field.description or ""
            if "{choices}" in meaning:
                names = ", ".join(choices_of(fact(field, "choices")))
                meaning = meaning.replace("{choices}", names)
            wrapped = textwrap.wrap(meaning, 112, initial_indent="# ", subsequent_indent="# ")
            lines.extend(wrapped)
            line = f"{key} = {_toml(content)}"
            if content is None:
                line = f"# {key} ="  # TOML has no word for it
            if name == "brain" and key == "subjects":
                nested.append(SUBJECT)
                line = f"# {line}"  # TOML allows no blocks [[brain.subjects]] beside it
            lines.append(line)
    blocks = "".join(f"\n{block}" for block in nested)
    return "\n".join(lines) + "\n" + blocks


def _toml(value: Any) -> str:
    if value is PydanticUndefined:
        raise TypeError("a section of the study file has a key without default")
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return json.dumps(value)
    if isinstance(value, (list, tuple)):
        items = [_toml(item) for item in value]
        return f"[{', '.join(items)}]"
    if not isinstance(value, dict):
        return repr(value)
    items = []
    for key, item in value.items():
        name = key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else json.dumps(key)
        items.append(f"{name} = {_toml(item)}")
    return f"{{ {', '.join(items)} }}"


def study_toml(settings: StudySettings) -> str:
    """Write settings out as the study file that would give them.

    Parameters
    ----------
    settings : StudySettings
        Settings of a study.

    Returns
    -------
    str
        TOML with every key but those of ``[run]``, and without the default simulation where nothing
        is simulated.
    """
    lines: list[str] = []
    sections = settings.numbers()
    if settings.brain.source != "simulated" and settings.brain.simulation == Simulation():
        del sections["brain"]["simulation"]
    for section, values in sections.items():
        _write_out(section, values, lines)
    return "\n".join(lines) + "\n"


def _write_out(section: str, values: dict[str, Any], lines: list[str]) -> None:
    """Add the lines of a section, then those of the sections inside ``[brain]``."""
    subjects = []
    nested = {}
    lines.append(f"[{section}]")
    for key, item in values.items():
        names_subjects = section == "brain" and key == "subjects"
        if names_subjects and not any(isinstance(subject, str) for subject in item):
            subjects = item  # their files are listed
        elif section == "brain" and isinstance(item, dict):
            nested[key] = item
        else:
            lines.append(f"{key} = {_toml(item)}")
    lines.append("")
    for key, item in nested.items():
        _write_out(f"{section}.{key}", item, lines)
    for subject in subjects:
        lines.append(f"[[{section}.subjects]]")
        for key, item in subject.items():
            lines.append(f"{key} = {_toml(item)}")
        lines.append("")

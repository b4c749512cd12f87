"""Messages of a study: parameters and options of commands as keys of the study file."""

from __future__ import annotations

import re
from collections.abc import Mapping

from neurometamer.study.settings import Glm, Rsa, Selection, StudySettings, Subject

OTHER_NAMES = {
    "columns": "[glm] confounds",
    "n_per_roi": "[selection] voxels_per_roi",
}
"""Parameter to the setting, where its key has another name."""

OTHER_NAMES_IN_BIDS = {"condition_column": "[brain] id_column", "masks": "[brain] rois"}
"""The same for a study of a BIDS data set."""


def setting_names(settings: StudySettings) -> dict[str, str]:
    """Say where a study sets what the functions behind it take.

    Parameters
    ----------
    settings : StudySettings
        The study.

    Returns
    -------
    dict of str to str
        Parameter to section and key.

    Examples
    --------
    >>> from neurometamer.study import StudySettings
    >>> setting_names(StudySettings())["high_pass"]
    '[glm] high_pass'
    """
    is_bids = settings.brain.source == "bids"
    of_files = type(settings.brain) if is_bids else Subject
    place = "[brain]" if is_bids else "[[brain.subjects]]"
    names = {key: f"[rsa] {key}" for key in Rsa.model_fields}
    names |= {key: f"{place} {key}" for key in of_files.model_fields}
    names |= {key: f"[selection] {key}" for key in Selection.model_fields}
    names |= {key: f"[glm] {key}" for key in Glm.model_fields}
    names |= OTHER_NAMES
    return names | OTHER_NAMES_IN_BIDS if is_bids else names


def in_words_of_settings(message: str, names: Mapping[str, str]) -> str:
    """Write parameters and options in a message as keys of the study file.

    Parameters
    ----------
    message : str
        Message of a function of neurometamer or fmri.
    names : mapping of str to str
        From `setting_names`.

    Returns
    -------
    str
        The message for a study; names that a study does not set stay as they are.

    Examples
    --------
    >>> names = {"units": "[glm] units", "high_pass": "[glm] high_pass"}
    >>> in_words_of_settings('give units="raw" (--units raw), or high_pass (--high-pass)', names)
    'give [glm] units = "raw", or [glm] high_pass'
    >>> in_words_of_settings("fewer drifts (--high-pass)", names)
    'fewer drifts ([glm] high_pass)'
    >>> in_words_of_settings("use interval='none'", {"interval": "[rsa] interval"})
    'use [rsa] interval = "none"'
    """

    def _as_toml(match: re.Match[str]) -> str:
        value = match[1].replace("'", '"')
        return f"{key} = {value.lower() if value in ('True', 'False') else value}"

    for name, key in names.items():
        flag = "--" + name.replace("_", "-")
        own = rf"(?<![\w./'\"=-])(?<!\] ){name}"
        value = r"(\"[^\"]*\"|'[^']*'|[\w-]+(?:\.\d+)?)"
        message = re.sub(rf"{own}={value}(?: \({flag}(?: [^()]*)?\))?", _as_toml, message)
        message = re.sub(rf"{own}(?: \({flag}\)|, {flag}(?=\)))", key, message)
        message = re.sub(rf"{flag} ([a-zA-Z]+)(?=\))", rf'{key} = "\1"', message)
        message = re.sub(rf"{flag}(?![\w-])", key, message)
    return message

"""The Python twin of ``neurometamer searchlight``: files in, a folder of maps and figures out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from neurometamer.arguments import checked
from neurometamer.commands.stimuli import Progress
from neurometamer.errors import InputError, unknown_name
from neurometamer.provenance import digest_file, provenance
from neurometamer.report.rsa import find_stamps, rdm_stamps, study_record
from neurometamer.report.rsa_pages import DrawnMap, find_hemisphere, write_map_page
from neurometamer.resume import writes_into
from neurometamer.store import file_name, read_table, write_json, write_table

if TYPE_CHECKING:
    from fmri.patterns import Patterns
    from neurometamer.rsa.searchlight.maps import Question, SearchlightMap
    from neurometamer.rsa.searchlight.neighborhoods import Neighborhoods


@dataclass(frozen=True)
class _Space:
    """Where a map lives: voxels of a mask, or vertices of a mesh."""

    near: Neighborhoods
    patterns: Patterns
    responses: np.ndarray
    mask: np.ndarray | None = None
    affine: np.ndarray | None = None
    mesh: tuple[np.ndarray, np.ndarray] | None = None

    def write(self, folder: Path, name: str, values: np.ndarray) -> Path:
        """Write one map."""
        from fmri.maps import write_surface_map, write_volume_map

        if self.mask is None or self.affine is None:
            return write_surface_map(folder / f"{name}.func.gii", values, name)
        return write_volume_map(folder / f"{name}.nii.gz", values, self.mask, self.affine)

    def shaped(self, values: np.ndarray) -> np.ndarray:
        """Put values of places into the volume, NaN outside; those of a mesh stay as they are."""
        if self.mask is None:
            return values
        volume = np.full(self.mask.shape, np.nan)
        volume[self.mask] = values
        return volume


@writes_into("out")
@checked
def searchlight_files(
    out: str | Path,
    *,
    patterns: str | Path | None = None,
    betas: str | Path | None = None,
    table: str | Path | None = None,
    mask: str | Path | None = None,
    mesh: str | Path | None = None,
    models: str | Path | None = None,
    kinds: Sequence[str] = (),
    stimuli: str | Path | None = None,
    reliability: bool = False,
    radius_mm: float = 6.0,
    measure: str = "spearman",
    by: str = "spearman",
    permutations: int = 0,
    space: str = "native",
    hemisphere: str | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Path:
    """Map where representations are like a model.

    Maps of where two kinds are arranged alike, and of where RDMs are reliable, can be made too.

    Parameters
    ----------
    out : path-like
        Folder for the maps: ``NAME.nii.gz`` or ``NAME.func.gii`` with NaN where undefined,
        ``NAME_p`` and ``NAME_p_family`` with `permutations`, ``NAME.json`` beside each,
        ``summary.csv``, ``figures/`` (SVG, PNG and CSV of each map) and the page ``index.html``.
    patterns : path-like, optional
        File of ``neurometamer fmri patterns``; or give `betas`.
    betas : path-like, optional
        Folder of ``neurometamer fmri betas``; with `mesh`, a ``.func.gii`` file, its rows named by
        `table`.
    table : path-like, optional
        With betas of vertices: CSV or TSV with a column condition, one row a data array.
    mask : path-like, optional
        Binary NIfTI, the places of a map in volume; or give `mesh`.
    mesh : path-like, optional
        Surface (``.surf.gii`` or FreeSurfer), the places of a map of vertices.
    models : path-like, optional
        HDF5 file of model RDMs over the conditions; a map each.
    kinds : sequence of str
        Pairs as ``"RE-AN"``; a map each. Needs `stimuli`.
    stimuli : path-like, optional
        CSV with id, kind and reference_id. With `models`, the RDMs may be of any kind's stimuli.
    reliability : bool
        Also map the reliability of RDMs (odd and even presentations), of RE images alone where
        `stimuli` tells them.
    radius_mm : float
        Radius of spheres, or of disks along the edges of the mesh.
    measure : {"spearman", "pearson", "crossnobis"}
        RDMs are 1 - this correlation over neighbors, or crossvalidated over runs (`run_responses`;
        no reliability).
    by : str
        Comparison of RDMs.
    permutations : int
        Permutations of condition labels; 0 for no p.
    space : {"native", "MNI"}
        Space of the mask: only maps in MNI space are drawn on a glass brain.
    hemisphere : {"left", "right"}, optional
        Hemisphere of the mesh, where its file name does not tell (``lh.``, ``hemi-L``, ``.L.``).
    seed : int
        Seed of the permutations.
    progress : callable, optional
        Called with (centers done, centers), over all maps.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    InputError
        When the input cannot be used, nothing tells the hemisphere of a mesh, or a map's name
        cannot name a file.

    Examples
    --------
    >>> from neurometamer import InputError, searchlight_files
    >>> try:
    ...     searchlight_files("maps", patterns="S1.h5", models="network.h5")
    ... except InputError as error:
    ...     print(error)
    give either a mask (--mask) or a mesh (--mesh).
    """
    from neurometamer.rsa.compute import read_rdms
    from neurometamer.rsa.searchlight.maps import run_searchlight, summary_table

    _check_request(mask, mesh, patterns, betas, models, kinds, stimuli, reliability)
    side = _check_drawing(mesh, space, hemisphere)
    places = _open_space(patterns, betas, table, mask, mesh, radius_mm)
    questions = _questions(places, models, kinds, stimuli, reliability, measure)
    _check_names([question.name for question in questions])
    folder, maps = Path(out), []
    settings = {
        "radius_mm": radius_mm,
        "measure": measure,
        "by": by,
        "permutations": permutations,
        "seed": seed,
        "kinds": list(kinds),
        "reliability": reliability,
        "space": space,
    }
    settings |= {"hemisphere": side} if mesh else {}
    given = {
        name: file
        for name, file in (("mask", mask), ("mesh", mesh), ("models", models), ("stimuli", stimuli))
        if file
    }
    inputs = {name: digest_file(file) for name, file in given.items()} | {
        "patterns": places.patterns.digest
    }
    record = provenance(settings, inputs=inputs)
    for i, question in enumerate(questions):
        map_found = run_searchlight(
            question,
            places.near,
            measure=measure,
            by=by,
            n_permutations=permutations,
            seed=seed,
            progress=_share(progress, i, len(questions)),
        )
        maps.append(map_found)
        _write_map(places, folder, map_found, record, permutations > 0)
    summary = summary_table(maps)
    write_table(folder / "summary.csv", summary)
    source = patterns or betas or ""  # one of them was given
    stamps = find_stamps(dict(places.patterns.provenance), study_record(source))
    if models is not None:
        stamps += rdm_stamps(read_rdms(models), models)
    write_map_page(
        folder,
        [_drawn(places, part, permutations > 0) for part in maps],
        summary,
        record=record,
        affine=places.affine,
        space=space,
        mesh=places.mesh,
        hemisphere=side,
        stamps=stamps,
    )
    return folder


def _drawn(places: _Space, result: SearchlightMap, with_p: bool) -> DrawnMap:
    p = places.shaped(result.p_family) if with_p else None
    method = str(result.summary["method"])
    return DrawnMap(
        name=result.question.name, values=places.shaped(result.values), p_family=p, method=method
    )


def _check_drawing(mesh: Any, space: str, hemisphere: str | None) -> str:
    """Check how maps are to be drawn before hours are spent on them.

    The result is the hemisphere of a mesh, empty for a volume.
    """
    from neurometamer.figures.brain_maps import SPACES

    if space not in SPACES:
        raise unknown_name("space", space, SPACES)
    if mesh is None and hemisphere is not None:
        raise InputError("--hemisphere is of a mesh (--mesh); a volume has both.")
    if mesh is not None and space != "native":
        raise InputError(f"--space {space} is of a volume (--mask); a mesh is drawn as it is.")
    return "" if mesh is None else find_hemisphere(mesh, hemisphere)


def _check_names(names: Sequence[str]) -> None:
    """Refuse names of maps that cannot name files, or would leave the folder."""
    for name in names:
        try:
            file_name(name)
        except InputError as error:
            raise InputError(
                f"map {name!r} gives its files their names, which this one cannot "
                f"({str(error).partition(';')[0]}); "
                "rename the model's RDM (rdm_descriptors stage, roi or name)."
            ) from error


def _share(progress: Progress | None, i: int, n: int) -> Progress | None:
    return None if progress is None else lambda done, total: progress(i * total + done, n * total)


def _write_map(
    places: _Space, folder: Path, result: SearchlightMap, record: dict[str, Any], with_p: bool
) -> None:
    name = result.question.name
    files = {name: result.values} | (
        {f"{name}_p": result.p, f"{name}_p_family": result.p_family} if with_p else {}
    )
    written = [places.write(folder, map_name, values).name for map_name, values in files.items()]
    write_json(folder / f"{name}.json", {**record, "map": result.summary, "files": written})


def _check_request(
    mask: Any,
    mesh: Any,
    patterns: Any,
    betas: Any,
    models: Any,
    kinds: Sequence[str],
    stimuli: Any,
    reliability: bool,
) -> None:
    if (mask is None) == (mesh is None):
        raise InputError("give either a mask (--mask) or a mesh (--mesh).")
    if (patterns is None) == (betas is None):
        raise InputError("give either patterns (--patterns) or betas (--betas).")
    if models is None and not kinds and not reliability:
        raise InputError(
            "nothing to map; give --model-rdms FILE, --kinds RE-AN …, or --reliability."
        )
    if kinds and stimuli is None:
        raise InputError(
            "--kinds needs --stimuli CSV, which says of which kind and photograph each condition "
            "is."
        )


def _open_space(
    patterns: Any, betas: Any, table: Any, mask: Any, mesh: Any, radius_mm: float
) -> _Space:
    from fmri.betas import read_betas
    from fmri.maps import mask_places, read_mask, read_mesh, read_surface_patterns, vertex_places
    from fmri.patterns import read_patterns
    from neurometamer.rsa.searchlight.maps import place_responses
    from neurometamer.rsa.searchlight.neighborhoods import Disks, Spheres

    if mask is not None:
        inside, affine = read_mask(mask)
        responses = (
            read_betas(betas, {"searchlight": mask}, unusable="drop")
            if betas
            else read_patterns(patterns)
        )
        responses, places = mask_places(responses, inside, affine)
        near: Neighborhoods = Spheres(inside, affine, radius_mm)
        return _Space(
            near, responses, place_responses(responses, len(near), places), inside, affine
        )
    surface = read_mesh(mesh)
    near = Disks(*surface, radius_mm)
    if betas is not None and table is None:
        raise InputError(
            "betas of vertices need --table, one row a data array, with the column condition."
        )
    responses = read_surface_patterns(betas, table) if betas else read_patterns(patterns)
    n_values = responses.provenance.get("n_vertices", len(near))
    if n_values != len(near):
        raise InputError(
            f"{Path(betas or patterns).name} has {n_values} values a map but {Path(mesh).name} has "
            f"{len(near)} vertices; give the mesh that the responses were sampled on."
        )
    responses, places = vertex_places(responses, len(near))
    return _Space(near, responses, place_responses(responses, len(near), places), mesh=surface)


def _questions(
    places: _Space, models: Any, kinds: Sequence[str], stimuli: Any, reliability: bool, measure: str
) -> list[Question]:
    from neurometamer.rsa.compute import read_rdms
    from neurometamer.rsa.searchlight.maps import (
        kind_question,
        model_questions,
        reliability_question,
    )
    from neurometamer.rsa.searchlight.runs import run_responses

    patterns = places.patterns
    held = patterns.observations["condition"].to_numpy()
    conditions = patterns.conditions
    means: Any = np.array(
        [places.responses[held == condition].mean(axis=0) for condition in conditions]
    )
    if measure == "crossnobis":
        means = run_responses(patterns, places.responses)
    table = (
        None if stimuli is None else read_table(stimuli, required=["id", "kind", "reference_id"])
    )
    questions: list[Question] = []
    if models is not None:
        rdms = read_rdms(models)
        known = set(map(str, rdms.pattern_descriptors["condition"]))
        wanted = [
            i for i, condition in enumerate(conditions) if table is None or condition in known
        ]
        part = means.take(wanted) if measure == "crossnobis" else means[wanted]
        questions += model_questions([conditions[i] for i in wanted], part, rdms)
    for pair in kinds:
        first, _, second = pair.partition("-")
        if not (first and second):
            raise InputError(f"--kinds wants pairs as RE-AN, not '{pair}'.")
        questions.append(kind_question(conditions, means, table, (first, second)))  # type: ignore[arg-type]
    if reliability:
        regular = (
            []
            if table is None
            else [str(stimulus) for stimulus in table["id"][table["kind"] == "RE"]]
        )
        questions.append(reliability_question(patterns, places.responses, regular))
    return questions

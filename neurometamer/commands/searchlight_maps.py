"""The command ``neurometamer searchlight``: files in, a folder of maps and figures out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from neurometamer.arguments import KeywordsOf, checked
from neurometamer.commands.options import Progress
from neurometamer.errors import InputError, unknown_name
from neurometamer.provenance import digest_file, provenance
from neurometamer.report.rsa import find_stamps, rdm_stamps, study_record
from neurometamer.report.searchlight import DrawnMap, find_hemisphere, write_map_page
from neurometamer.resume import writes_into
from neurometamer.rsa.compute import read_rdms
from neurometamer.rsa.searchlight.maps import SearchlightMap, run_searchlight, summary_table
from neurometamer.rsa.searchlight.neighborhoods import Disks, Spheres
from neurometamer.rsa.searchlight.questions import (
    Question,
    image_type_question,
    model_questions,
    place_responses,
    reliability_question,
    run_responses,
)
from neurometamer.store import file_name, read_table, write_json, write_table

if TYPE_CHECKING:
    from rsatoolbox.rdm import RDMs

    from fmri.patterns import Patterns
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
            surface = folder / f"{name}.func.gii"
            return write_surface_map(surface, values, name)
        volume = folder / f"{name}.nii.gz"
        return write_volume_map(volume, values, self.mask, self.affine)

    def shaped(self, values: np.ndarray) -> np.ndarray:
        """Put values of places into the volume, NaN outside; those of a mesh stay as they are."""
        if self.mask is None:
            return values
        volume = np.full(self.mask.shape, np.nan)
        volume[self.mask] = values
        return volume


@dataclass(frozen=True, kw_only=True)
class SearchlightOptions:
    """What `searchlight` maps, and how.

    Parameters
    ----------
    image_types : sequence of str
        Pairs of image types as ``"RE-AN"``; a map each. Needs `stimuli`.
    reliability : bool
        Whether to map the reliability of RDMs, too (odd and even presentations), of RE images alone
        where `stimuli` names them.
    radius_mm : float
        Radius in mm of spheres, or of disks along the edges of the mesh.
    measure : str
        RDMs are 1 - this correlation over neighbors (spearman or pearson), or crossvalidated over
        runs (crossnobis; no reliability).
    comparator : str
        How RDMs are compared: spearman, pearson, rho-a or cosine.
    n_permutations : int
        Permutations of condition labels, for p and max-T; 0 for no p.
    space : str
        Space of the mask, native or MNI: only maps in MNI space are drawn on a glass brain.
    hemisphere : {"left", "right"}, optional
        Hemisphere of the mesh, where its file name does not say it (``lh.``, ``hemi-L``, ``.L.``).
    seed : int
        Seed of the permutations.

    Examples
    --------
    >>> SearchlightOptions(reliability=True).radius_mm
    6.0
    """

    image_types: Sequence[str] = ()
    reliability: bool = False
    radius_mm: float = 6.0
    measure: str = "spearman"
    comparator: str = "spearman"
    n_permutations: int = 0
    space: str = "native"
    hemisphere: str | None = None
    seed: int = 0


@writes_into("out")
@checked
def searchlight(
    out: str | Path,
    *,
    patterns: str | Path | None = None,
    betas: str | Path | None = None,
    table: str | Path | None = None,
    mask: str | Path | None = None,
    mesh: str | Path | None = None,
    model_rdms: str | Path | None = None,
    stimuli: str | Path | None = None,
    progress: Progress | None = None,
    **options: Annotated[
        Any, KeywordsOf("neurometamer.commands.searchlight_maps:SearchlightOptions")
    ],
) -> Path:
    """Map where representations are like a model.

    Maps of where two image types are arranged alike, and of where RDMs are reliable, can be made
    too.

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
    model_rdms : path-like, optional
        HDF5 file of model RDMs over the conditions; a map each.
    stimuli : path-like, optional
        CSV with id, kind and reference_id. With `model_rdms`, the RDMs may be of the stimuli of any
        image type.
    progress : callable, optional
        Called with (centers done, centers), over all maps.
    **options : object
        Fields of `SearchlightOptions`.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    InputError
        When the input cannot be used, nothing says which hemisphere a mesh is, or a map's name
        cannot name a file.

    Examples
    --------
    >>> from neurometamer import InputError
    >>> from neurometamer.commands import searchlight
    >>> try:
    ...     searchlight("maps", patterns="S1.h5", model_rdms="network.h5")
    ... except InputError as error:
    ...     print(error)
    give either a mask (--mask) or a mesh (--mesh).
    """
    chosen = SearchlightOptions(**options)
    hemisphere = _check_request(mask, mesh, patterns, betas, model_rdms, stimuli, chosen)
    places = _open_space(patterns, betas, table, mask, mesh, chosen.radius_mm)
    models = None if model_rdms is None else read_rdms(model_rdms)
    questions = _questions(places, models, stimuli, chosen)
    _check_names([question.name for question in questions])
    settings = asdict(chosen) | {"image_types": list(chosen.image_types)}
    settings["hemisphere"] = hemisphere
    if mesh is None:
        del settings["hemisphere"]
    files = {"mask": mask, "mesh": mesh, "models": model_rdms, "stimuli": stimuli}
    inputs = {name: digest_file(file) for name, file in files.items() if file}
    inputs["patterns"] = places.patterns.digest
    record = provenance(settings, inputs=inputs)
    folder = Path(out)
    maps = []
    drawn = []
    for i, question in enumerate(questions):

        def _report_progress(done: int, total: int, before: int = i) -> None:
            if progress is not None:
                progress(before * total + done, len(questions) * total)

        result = run_searchlight(
            question,
            places.near,
            measure=chosen.measure,
            comparator=chosen.comparator,
            n_permutations=chosen.n_permutations,
            seed=chosen.seed,
            progress=_report_progress,
        )
        maps.append(result)
        _write_map(places, folder, result, record, chosen.n_permutations > 0)
        p_family = places.shaped(result.p_family) if chosen.n_permutations > 0 else None
        drawn.append(
            DrawnMap(
                name=question.name,
                values=places.shaped(result.values),
                p_family=p_family,
                method=str(result.summary["method"]),
            )
        )
    summary = summary_table(maps)
    write_table(folder / "summary.csv", summary)
    source = patterns or betas or ""  # one of them was given
    stamps = find_stamps(dict(places.patterns.provenance), study_record(source))
    if models is not None and model_rdms is not None:
        stamps += rdm_stamps(models, model_rdms)
    write_map_page(
        folder,
        drawn,
        summary,
        record=record,
        affine=places.affine,
        space=chosen.space,
        mesh=places.mesh,
        hemisphere=hemisphere,
        stamps=stamps,
    )
    return folder


def _check_request(
    mask: object,
    mesh: str | Path | None,
    patterns: object,
    betas: object,
    model_rdms: object,
    stimuli: object,
    chosen: SearchlightOptions,
) -> str:
    """Refuse what cannot be mapped or drawn before hours are spent; give a mesh's hemisphere."""
    from neurometamer.figures.brain_maps import SPACES

    if (mask is None) == (mesh is None):
        raise InputError("give either a mask (--mask) or a mesh (--mesh).")
    if (patterns is None) == (betas is None):
        raise InputError("give either patterns (--patterns) or betas (--betas).")
    if model_rdms is None and not chosen.image_types and not chosen.reliability:
        raise InputError(
            "nothing to map; give --model-rdms FILE, --image-types RE-AN …, or --reliability."
        )
    if chosen.image_types and stimuli is None:
        raise InputError(
            "--image-types needs --stimuli CSV, which says of which type and photograph each "
            "condition is."
        )
    if chosen.space not in SPACES:
        raise unknown_name("space", chosen.space, SPACES)
    if mesh is None:
        if chosen.hemisphere is not None:
            raise InputError(
                f"--hemisphere is of a mesh (--mesh), and a volume has both; leave out "
                f"'{chosen.hemisphere}'."
            )
        return ""
    if chosen.space != "native":
        raise InputError(
            f"--space {chosen.space} is of a volume (--mask), a mesh is drawn as it is; leave it "
            "out."
        )
    return find_hemisphere(mesh, chosen.hemisphere)


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


def _write_map(
    places: _Space, folder: Path, result: SearchlightMap, record: dict[str, Any], with_p: bool
) -> None:
    """Write a map, its p values and its record."""
    name = result.question.name
    values = {name: result.values}
    if with_p:
        values[f"{name}_p"] = result.p
        values[f"{name}_p_family"] = result.p_family
    files = []
    for key, value in values.items():
        file = places.write(folder, key, value)
        files.append(file.name)
    own = {"map": result.summary, "files": files}
    write_json(folder / f"{name}.json", {**record, **own})


def _open_space(
    patterns: Any, betas: Any, table: Any, mask: Any, mesh: Any, radius_mm: float
) -> _Space:
    from fmri.betas.beta_files import read_betas
    from fmri.maps import mask_places, read_mask, vertex_places
    from fmri.patterns import read_patterns
    from fmri.surfaces import read_mesh, read_surface_patterns

    if mask is not None:
        inside, affine = read_mask(mask)
        responses = read_patterns(patterns) if patterns else None
        if responses is None:
            responses = read_betas(betas, {"searchlight": mask}, unusable="drop")
        responses, places = mask_places(responses, inside, affine)
        near: Neighborhoods = Spheres(inside, affine, radius_mm)
        placed = place_responses(responses, len(near), places)
        return _Space(near, responses, placed, inside, affine)
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
    places: _Space,
    models: RDMs | None,
    stimuli: str | Path | None,
    chosen: SearchlightOptions,
) -> list[Question]:
    """List what is mapped: similarity to each model, pairs of image types, reliability."""
    patterns = places.patterns
    conditions = patterns.conditions
    means: Any
    if chosen.measure == "crossnobis":
        means = run_responses(patterns, places.responses)
    else:
        shown = patterns.observations["condition"].to_numpy()
        rows = [places.responses[shown == condition].mean(axis=0) for condition in conditions]
        means = np.array(rows)
    table = None
    if stimuli is not None:
        table = read_table(stimuli, required=["id", "kind", "reference_id"])
    questions: list[Question] = []
    if models is not None:
        known = set(map(str, models.pattern_descriptors["condition"]))
        wanted = []
        for i, condition in enumerate(conditions):
            if table is None or condition in known:
                wanted.append(i)
        part = means.take(wanted) if chosen.measure == "crossnobis" else means[wanted]
        questions += model_questions([conditions[i] for i in wanted], part, models)
    for pair in chosen.image_types:
        first, _, second = pair.partition("-")
        if not (first and second):
            raise InputError(f"--image-types wants pairs as RE-AN, not '{pair}'.")
        questions.append(image_type_question(conditions, means, table, (first, second)))  # type: ignore[arg-type]
    if chosen.reliability:
        regular = []
        if table is not None:
            regular = table["id"][table["kind"] == "RE"].astype(str).tolist()
        questions.append(reliability_question(patterns, places.responses, regular))
    return questions

"""Programs that make betas: how their files are known and opened. GLMsingle, SPM, AFNI, images.

A program is one entry of `BETA_READERS`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fmri.betas.prediction import quartiles
from fmri.extraction import read_hdf5_voxels, read_voxels
from fmri.tables import NO_TRIAL_TYPE
from fmri.volumes import check_4d, image_affine, open_nifti
from neurometamer.errors import InputError, name_ids
from neurometamer.reading import check_plain_file, reading
from neurometamer.store import open_hdf5


@dataclass(frozen=True, kw_only=True, eq=False)
class BetaImages:
    """Volumes of betas that a program wrote.

    Parameters
    ----------
    shape : tuple of int
        Voxels along i, j, k; of a list of voxels one number.
    n_volumes : int
        Number of volumes.
    read : callable
        Voxels (mask) and numbers of volumes to values (n_volumes, n_voxels).
    affine : ndarray, shape (4, 4), optional
        Of the volumes; None where the file does not say.
    table : pandas.DataFrame, optional
        ``condition``, ``run`` and ``session`` of each volume where the program wrote them; ``n/a``
        for volumes that are no betas.
    chosen_on_all_runs : tuple of str
        Of ``"denoised"`` and ``"shrunken"``, what the file says of itself.
    units : str
        Unit of the betas.
    n_noise : int, optional
        Number of noise regressors that the program chose.
    maps : mapping of str to ndarray
        Column of the table of voxels to what the program chose for each voxel, of the shape
        `shape`: ``hrf_index`` and ``fraction``.
    """

    shape: tuple[int, ...]
    n_volumes: int
    read: Callable[[np.ndarray, np.ndarray], np.ndarray]
    affine: np.ndarray | None = None
    table: pd.DataFrame | None = None
    chosen_on_all_runs: tuple[str, ...] = field(default=())
    units: str = ""
    n_noise: int | None = None
    maps: Mapping[str, np.ndarray] = field(default_factory=dict)

    def record(self, voxels: pd.DataFrame) -> dict[str, Any]:
        """Write down what the program chose, as `fmri.estimate_betas` does for its own betas.

        Parameters
        ----------
        voxels : pandas.DataFrame
            The voxels that were read, with the columns of `maps`.

        Returns
        -------
        dict
            ``chosen_on_all_runs``, ``hrf`` (voxels of each shape), ``noise`` and ``shrinkage``
            (quartiles of the fractions), as far as the program chose; empty when nothing.
        """
        record: dict[str, Any] = {}
        once = voxels.drop_duplicates(["i", "j", "k"])
        finite = {name: once[name][np.isfinite(once[name])] for name in self.maps}
        if len(shapes := finite.get("hrf_index", ())):
            counts = pd.Series(shapes).astype(int).value_counts().sort_index()
            record["hrf"] = {"n_voxels": {f"HRFindex {name}": int(n) for name, n in counts.items()}}
        if self.n_noise is not None:
            record["noise"] = {"n_regressors": self.n_noise}
        if len(fractions := finite.get("fraction", ())):
            record["shrinkage"] = {"fractions": quartiles(np.asarray(fractions))}
        if record or self.chosen_on_all_runs:
            record["chosen_on_all_runs"] = list(self.chosen_on_all_runs)
        return record


@dataclass(frozen=True, kw_only=True)
class BetaReader:
    """How the betas of a program are known and opened.

    Parameters
    ----------
    names : tuple of str
        Patterns of the names of its files or folders.
    holds : tuple of str
        Patterns of files, of each of which its folders hold at least one.
    open : callable
        Path to `BetaImages`.
    help : str
        What it reads.
    """

    names: tuple[str, ...]
    holds: tuple[str, ...] = ()
    open: Callable[[Path], BetaImages]
    help: str

    def recognizes(self, path: Path) -> bool:
        """Say whether a path is this program's, by names alone.

        Parameters
        ----------
        path : Path
            A file or a folder.

        Returns
        -------
        bool
            True when its name fits, and it holds what it must.
        """
        if not any(fnmatchcase(path.name, pattern) for pattern in self.names):
            return False
        return all(any(path.glob(pattern)) for pattern in self.holds)


# ---------------------------------------------------------------------------------------- GLMsingle

_GLMSINGLE_MAPS = {"HRFindex": "hrf_index", "FRACvalue": "fraction"}
"""What GLMsingle chose for each voxel, to its column in the table of voxels."""


def _open_glmsingle(path: Path) -> BetaImages:
    if path.suffix == ".npy":
        raise InputError(
            f"{path} holds pickled Python objects, which can run any code when they are loaded and "
            "are not read here; let GLMsingle write HDF5 (wanthdf5 = 1), or save its 'betasmd' as "
            "a NIfTI image."
        )
    with open_hdf5(path) as file:
        if "betasmd" not in file:
            raise InputError(
                f"{path} has no 'betasmd' but {name_ids(file)}; give TYPEB_…, TYPEC_… or "
                "TYPED_….hdf5 of GLMsingle."
            )
        shape = tuple(int(size) for size in file["betasmd"].shape)
        choices = {}
        for name in ("pcnum", *_GLMSINGLE_MAPS):
            if name in file:
                choices[name] = np.asarray(file[name], dtype=np.float64)
    if len(shape) not in (2, 4):
        raise InputError(
            f"{path}: 'betasmd' has the shape {shape}; (i, j, k, trials) or (voxels, trials) is "
            "expected."
        )
    space = shape[:-1]
    if len(space) == 3 and space[1:] == (1, 1):
        space = space[:1]
    for name, values in choices.items():
        expected = 1 if name == "pcnum" else np.prod(space)
        if values.size != expected:
            raise InputError(
                f"{path}: '{name}' has the shape {values.shape}, but 'betasmd' {shape}; copy the "
                "file again."
            )
    pcnum = choices.pop("pcnum", None)
    n_noise = None if pcnum is None else max(0, int(np.nan_to_num(pcnum).item()))
    maps = {_GLMSINGLE_MAPS[name]: values.reshape(space) for name, values in choices.items()}
    chosen = ["denoised"] if n_noise else []
    chosen += ["shrunken"] if "fraction" in maps else []

    def _read(mask: np.ndarray, volumes: np.ndarray) -> np.ndarray:
        with open_hdf5(path) as file:
            return read_hdf5_voxels(file["betasmd"], np.flatnonzero(mask), volumes, axis=-1)

    return BetaImages(
        shape=space,
        n_volumes=shape[-1],
        read=_read,
        chosen_on_all_runs=tuple(chosen),
        units="percent",
        n_noise=n_noise,
        maps=maps,
    )


# ---------------------------------------------------------------------------------------------- SPM

_SPM_NAME = re.compile(r"Sn\((\d+)\) (.+)\*bf\(1\)")
_SPM_MODULATOR = re.compile(r".+x.+\^\d+")


def _open_spm(path: Path) -> BetaImages:
    from scipy.io import loadmat

    with reading(path / "SPM.mat", "an SPM.mat") as file:
        with file.open("rb") as stream:
            is_hdf5 = b"MATLAB 7.3" in stream.read(128)
        if is_hdf5:
            raise InputError(
                f"{file} is saved as MATLAB 7.3; save it again in MATLAB: save('SPM.mat', 'SPM', "
                "'-v7')."
            )
        design = loadmat(file, struct_as_record=False, squeeze_me=True)["SPM"].xX
        names = [str(name) for name in np.atleast_1d(design.name)]
    files = sorted(path.glob("beta_*.nii"))
    numbers = [int(re.sub(r"\D", "", image.stem)) for image in files]
    if numbers != list(range(1, len(names) + 1)):
        raise InputError(
            f"{path} has {len(files)} files beta_….nii for the {len(names)} columns of SPM.mat; "
            "copy all of them."
        )
    rows = []
    for name in names:
        match = _SPM_NAME.fullmatch(name)
        if match is None or _SPM_MODULATOR.fullmatch(match[2]):
            rows.append((NO_TRIAL_TYPE, ""))
        else:
            rows.append((match[2], match[1]))
    table = pd.DataFrame(rows, columns=["condition", "run"]).assign(session="")
    first = open_nifti(files[0])

    def _read(mask: np.ndarray, volumes: np.ndarray) -> np.ndarray:
        values = np.empty((len(volumes), int(mask.sum())))
        for row, number in enumerate(volumes):
            image = open_nifti(files[number])
            if image.shape[:3] != mask.shape:
                raise InputError(
                    f"{files[number]} has the grid {image.shape[:3]}, others {mask.shape}; "
                    "estimate the model again."
                )
            with reading(files[number], "a NIfTI image"):
                volume = np.asarray(image.dataobj)
            values[row] = volume.reshape(mask.shape)[mask]
        return values

    return BetaImages(
        shape=tuple(int(size) for size in first.shape[:3]),
        n_volumes=len(files),
        read=_read,
        affine=image_affine(files[0], first),
        table=table,
        units="raw",
    )


# --------------------------------------------------------------------------------------------- AFNI

_AFNI_LABELS = re.compile(
    rb"atr_name=\"BRICK_LABS\"[^>]*>\s*\"(.*?)\"\s*</AFNI_atr>", flags=re.DOTALL
)
_AFNI_TRIAL = re.compile(r"(.+?)#(\d+)(?:_Coef)?")


def _open_afni(path: Path) -> BetaImages:
    import nibabel

    base = re.sub(r"\.(HEAD|BRIK|BRIK\.gz)$", "", str(path))
    head = check_plain_file(f"{base}.HEAD")
    with reading(head, "an AFNI dataset"):
        image: Any = nibabel.load(head)
        labels = list(image.header.get_volume_labels())
        shape = tuple(int(size) for size in image.shape)
        affine = np.asarray(image.affine, dtype=np.float64)
    n_volumes = shape[3] if len(shape) > 3 else 1

    def _read(mask: np.ndarray, volumes: np.ndarray) -> np.ndarray:
        values = np.empty((len(volumes), int(mask.sum())))
        with reading(head, "an AFNI dataset"):
            for row, number in enumerate(volumes):
                volume = np.asarray(image.dataobj[..., number])
                values[row] = volume[mask]
        return values

    return BetaImages(
        shape=shape[:3],
        n_volumes=n_volumes,
        read=_read,
        affine=affine,
        table=_table_of_labels(labels, n_volumes),
        units="raw",
    )


def _table_of_labels(labels: Sequence[str], n_volumes: int) -> pd.DataFrame | None:
    """Take conditions from labels such as ``cat#0_Coef``; statistics and baselines are no betas."""
    if len(labels) != n_volumes:
        return None
    has_coefficients = any(label.endswith("_Coef") for label in labels)
    names = []
    for label in labels:
        match = _AFNI_TRIAL.fullmatch(label)
        is_baseline = label.startswith(("Run#", "Full_"))
        if match is None or is_baseline or (has_coefficients and not label.endswith("_Coef")):
            names.append(NO_TRIAL_TYPE)
        else:
            names.append(match[1])
    if set(names) == {NO_TRIAL_TYPE}:
        return None
    return pd.DataFrame({"condition": names, "run": "", "session": ""})


# ------------------------------------------------------------------------------------- plain images


def _open_image(path: Path) -> BetaImages:
    image = open_nifti(path)
    shape = check_4d(path, image)
    labels: list[str] = []
    for extension in image.header.extensions:
        if extension.get_code() != 4:  # AFNI's
            continue
        content = extension.get_content()
        raw = content if isinstance(content, bytes) else str(content).encode()
        if match := _AFNI_LABELS.search(raw):
            labels = match[1].decode("utf-8", "replace").split("~")
    return BetaImages(
        shape=shape[:3],
        n_volumes=shape[3],
        read=lambda mask, volumes: read_voxels(path, mask)[volumes],
        affine=image_affine(path, image),
        table=_table_of_labels(labels, shape[3]),
    )


BETA_READERS: dict[str, BetaReader] = {
    "glmsingle": BetaReader(
        names=("TYPE*.h5", "TYPE*.hdf5", "TYPE*.npy"),
        open=_open_glmsingle,
        help="TYPE….hdf5 of GLMsingle, with a table of volumes and the grid of its data",
    ),
    "spm": BetaReader(
        names=("*",),
        holds=("SPM.mat", "beta_*.nii"),
        open=_open_spm,
        help="a folder with SPM.mat and beta_….nii",
    ),
    "afni": BetaReader(
        names=("*.HEAD", "*.BRIK", "*.BRIK.gz"),
        open=_open_afni,
        help="HEAD/BRIK with labels of sub-bricks such as cat#0_Coef",
    ),
    "image": BetaReader(
        names=("*.nii", "*.nii.gz"),
        open=_open_image,
        help="a 4-D NIfTI image, with AFNI's labels of sub-bricks or a table of volumes",
    ),
}
"""Program to how its betas are read, in the order in which a path is tried."""

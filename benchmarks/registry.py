"""All bars by name, in the order of the results page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module

from benchmarks.bars import Bar, Row, Setup


def _later(module: str, function: str) -> Callable[[Setup], Sequence[Row]]:
    """Import a topic when it is measured."""
    return lambda setup: getattr(import_module(f"benchmarks.{module}"), function)(setup)


BARS: Mapping[str, Bar] = {
    "P1": Bar(
        title="metamers, AlexNet, batch 8, against plenoptic",
        run=_later("metamers", "compare_with_plenoptic"),
    ),
    "P2": Bar(
        title="PGD through the whole network, against foolbox and torchattacks",
        run=_later("attacks", "compare_attacks"),
    ),
    "P3": Bar(
        title="the double forward pass of the published code, ResNet-50 layer1",
        run=_later("metamers", "compare_with_double_forward"),
    ),
    "P4": Bar(
        title="memory of an ensemble of four ResNet-50", run=_later("memory", "compare_ensemble")
    ),
    "P5": Bar(
        title="successes that hold when the PNG is read back",
        run=_later("saved_files", "read_back"),
    ),
    "P6": Bar(
        title="an image alone, in a batch, in another order",
        run=_later("companions", "compare_companions"),
    ),
    "P7": Bar(title="killed and resumed", run=_later("interruption", "interrupt")),
    "P8": Bar(
        title="work saved by dropping finished images", run=_later("finished_images", "count_work")
    ),
    "P9": Bar(
        title="controversial images, against forward and backward of both networks by hand",
        run=_later("disagreement", "compare_controversial"),
    ),
    "P10": Bar(
        title="eigendistortions in float64 at 32 px, against plenoptic",
        run=_later("disagreement", "compare_eigendistortions"),
    ),
    "peak": Bar(
        title="this machine's measured matrix-product peak", run=_later("hardware", "measure_peak")
    ),
    "fewer_steps": Bar(
        title="metamers at equal CPU budget", run=_later("fewer_steps", "compare_recipes")
    ),
    "ensemble": Bar(
        title="metamers of one network and of two, judged by a third",
        run=_later("ensemble", "judge_by_a_third"),
    ),
    "E1": Bar(
        title="six image metrics of 400 pairs, against torchmetrics image by image",
        run=_later("evaluation", "measure_image_quality"),
    ),
    "E2": Bar(
        title="divergence of distances, 80 images × 31 evaluators, 1,000 permutations",
        run=_later("evaluation", "measure_divergence"),
    ),
    "E3": Bar(
        title="the analysis of variance of Feather et al. (2023)",
        run=_later("evaluation", "measure_anova"),
    ),
    "R1": Bar(
        title="1 - Spearman RDMs, against rsatoolbox on ranks and scipy",
        run=_later("rdms", "measure_rank_correlation"),
    ),
    "R2": Bar(
        title="1 - Pearson RDMs, against rsatoolbox and corrcoef",
        run=_later("rdms", "measure_correlation"),
    ),
    "R3": Bar(
        title="RDMs of AlexNet's stages straight from the forward pass",
        run=_later("rdms", "measure_streaming"),
    ),
    "R6": Bar(
        title="crossnobis with shrinkage noise, against rsatoolbox",
        run=_later("rdms", "measure_crossnobis"),
    ),
    "R4": Bar(
        title="stimulus bootstrap with noise ceilings, against rsatoolbox",
        run=_later("rsa_resampling", "measure_bootstrap"),
    ),
    "R5": Bar(
        title="label permutations with max-T, against rsatoolbox",
        run=_later("rsa_resampling", "measure_permutation"),
    ),
    "R7": Bar(
        title="comparators, against rsatoolbox", run=_later("rsa_resampling", "measure_comparators")
    ),
    "L1": Bar(
        title="level of the test of the order of regions, and its power",
        run=_later("levels", "measure_hierarchy"),
    ),
    "L2": Bar(
        title="coverage of intervals of layers and regions",
        run=_later("levels", "measure_intervals"),
    ),
    "L3": Bar(
        title="level of flexible models of regions", run=_later("levels", "measure_flexible")
    ),
    "L4": Bar(
        title="coverage of intervals of error consistency",
        run=_later("levels", "measure_consistency"),
    ),
    "R8": Bar(
        title="searchlight RSA of a volume, against rsatoolbox",
        run=_later("searchlight", "measure_searchlight"),
    ),
    "F1": Bar(
        title="voxels of regions out of NIfTI files, against nilearn and bare reading",
        run=_later("extraction", "measure_nifti"),
    ),
    "F2": Bar(
        title="voxels out of HDF5 files of any layout, against h5py",
        run=_later("extraction", "measure_hdf5"),
    ),
    "F3": Bar(
        title="single-trial betas (LSA, LSS, AR(1)), against nilearn",
        run=_later("extraction", "measure_betas"),
    ),
    "F4": Bar(
        title="single-trial betas: HRF library, noise regressors, shrinkage, on planted truth",
        run=_later("single_trials", "measure_single_trials"),
    ),
    "F5": Bar(
        title="bias of noise ceilings averaged over voxels",
        run=_later("ceilings", "measure_ceilings"),
    ),
    "T1": Bar(
        title="a step of adversarial training, in plain steps",
        run=_later("training", "measure_step"),
    ),
    "T2": Bar(
        title="what trainings make of small networks: attacks, random perturbations, blur",
        run=_later("training", "measure_trainings"),
    ),
    "T3": Bar(
        title="metamers of robust, blur-trained and standard networks, seen by other networks",
        run=_later("training_metamers", "measure_headline"),
    ),
    "T4": Bar(
        title="blur × color in training: recognition, reliance on color, metamers and observers",
        run=_later("blur_and_color", "measure_blur_and_color"),
    ),
    "S1": Bar(
        title="coverage and level of image types, over simulated studies",
        run=_later("calibration", "measure_calibration"),
    ),
}

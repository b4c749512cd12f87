"""Every public function called with one argument wrong: an `InputError`, never a traceback of a library."""

from __future__ import annotations

import inspect
import math
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from rsatoolbox.rdm import RDMs
from torch import nn

import fmri
import neurometamer as nm
import stimuli_gen as sg
from neurometamer import arguments, behavior, encoding, evaluation
from neurometamer.behavior.trials import name_columns
from neurometamer.errors import InputError, OutputError
from neurometamer.evaluation.divergence import divergence
from neurometamer.run_options import RunOptions

PACKAGES = (
    "stimuli_gen",
    "fmri",
    "neurometamer",
    "neurometamer.evaluation",
    "neurometamer.behavior",
    "neurometamer.encoding",
    "neurometamer.figures.rsa",
    "neurometamer.figures.evaluation",
    "neurometamer.figures.study",
)
PUBLIC = {
    f"{package}.{name}": getattr(import_module(package), name)
    for package in PACKAGES
    for name in import_module(package).__all__
    if inspect.isfunction(getattr(import_module(package), name))
}
JUNK: dict[str, Any] = {
    "None": None,
    "text": "text",
    "whole number": 3,
    "number": 2.5,
    "negative": -1,
    "nan": math.nan,
    "infinite": math.inf,
    "truth": True,
    "file": Path("/nowhere/at/all.h5"),
    "list": [1, 2],
    "rows": [[1.0, 2.0], [3.0, 4.0]],
    "ragged": [[1, 2], [3]],
    "no elements": [],
    "mapping": {},
    "one axis": np.arange(3.0),
    "no axis": np.array(1.0),
    "empty array": np.zeros(0),
    "four axes": np.zeros((1, 2, 3, 4)),
    "missing numbers": np.full((3, 28), np.nan),
    "objects": np.array([None, "a"], dtype=object),
    "names": np.array(["a", "b"]),
    "no columns": pd.DataFrame(),
    "other columns": pd.DataFrame({"z": [1, 2]}),
    "tensor": torch.zeros(2, 3),
}
KINDS = ("RE", "AN", "AI")
STAGES = ("conv1", "layer4", "final")
RANDOM = np.random.default_rng(0)


def network() -> sg.StagedModel:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        first, last = nn.Conv2d(3, 4, 3, stride=2), nn.Linear(4 * 49, 1000)
    return sg.stage_model(
        nn.Sequential(nn.Sequential(first, nn.ReLU()), nn.Sequential(nn.Flatten(), last)),
        stages={"early": "0", "late": "1"},
        preprocessing=sg.Preprocessing(
            size=(16, 16), resize=16, interpolation="bilinear", mean=(0.0,) * 3, std=(1.0,) * 3
        ),
        class_names=[f"class {i}" for i in range(1000)],
        name="tiny",
        weights="random",
        trained=False,
    )


def images(table: dict[str, Any]) -> sg.StimulusSet:
    levels = RANDOM.integers(0, 256, (len(table["id"]), 3, 16, 16)).astype(np.float32)
    return sg.StimulusSet(images=levels / np.float32(255), table=pd.DataFrame(table))


def rdms(
    n: int, conditions: list[str], places: dict[str, list[str]], **patterns: list[str]
) -> RDMs:
    n_pairs = len(conditions) * (len(conditions) - 1) // 2
    return RDMs(
        RANDOM.random((n, n_pairs)),
        rdm_descriptors=places,
        pattern_descriptors={"condition": conditions, **patterns},
    )


def calls_of_images(folder: Path) -> dict[Any, dict[str, Any]]:
    model, pixels = network(), RANDOM.random((6, 3, 16, 16)).astype(np.float32)
    ids = [f"p{i}" for i in range(6)]
    photographs = images({"id": ids, "kind": "RE", "reference_id": ids, "category": list("aabbcc")})
    metamers = images({"id": [f"{one}m" for one in ids], "kind": "metamer", "reference_id": ids})
    some = RANDOM.random((3, 28))
    written, picture = folder / "written", folder / "picture.png"
    sg.write_stimuli(photographs, written)
    sg.write_png16(picture, pixels[0])
    common = {"seed": 0, "run": RunOptions(batch_size=8, mode="exact")}
    return {
        sg.adversarial_noise: {
            "model": model,
            "references": photographs,
            "confidence": 0.5,
            "step_size": 2.0,
            "max_steps": 1,
            **common,
        },
        sg.at_size: {"model": model, "size": 16},
        sg.choose_targets: {"rule": "random", "references": photographs, "model": model, "seed": 0},
        sg.concat_stimuli: {"sets": [photographs, metamers]},
        sg.control_images: {
            "references": photographs,
            "control": "blur",
            "levels": [1.0],
            "seed": 0,
        },
        sg.depth_units: {"network": model, "size": (16, 16)},
        sg.gabor_energy: {
            "images": pixels,
            "wavelengths": (4.0,),
            "n_orientations": 2,
            "size": 4,
            "bandwidth": 1.0,
        },
        sg.image_distances: {"image": pixels[0], "reference": pixels[1]},
        **{
            one: {"a": some, "b": some[::-1].copy()}
            for one in (
                sg.inversion_loss,
                sg.pearson,
                sg.spearman,
                sg.snr_db_power,
                sg.snr_db_amplitude,
            )
        },
        sg.judge: {
            "models": [(model, "early")],
            "references": photographs,
            "metamers": metamers,
            "nulls": [],
            "quantile": 1.0,
            "batch_size": 8,
        },
        sg.load_photographs: {
            "source": written / "png",
            "preprocessing": model.preprocessing,
            "bits": None,
            "icc": "ignore",
        },
        sg.luminance: {"images": pixels},
        sg.match_stages: {"models": model, "stage": "early", "stage_weights": None},
        sg.null_distribution: {
            "model": model,
            "stimuli": photographs,
            "stages": ["early"],
            "n_pairs": 5,
            "seed": 0,
        },
        sg.pixel_features: {"images": pixels, "size": 4, "color": False},
        sg.predict: {"model": model, "images": pixels, "batch_size": 8},
        sg.read_png16: {"path": picture},
        sg.read_stimuli: {"path": written, "in_memory": True},
        sg.resolve_device: {"name": "cpu"},
        sg.resolve_stage: {"model": model, "stage": "early"},
        sg.same_class: {"model": model, "references": pixels, "images": pixels, "batch_size": 8},
        sg.to_sixteen: {"probabilities": np.full((2, 1000), 0.001), "rule": "first_mapped"},
        sg.write_contact_sheet: {"path": folder / "sheet.png", "stimuli": photographs, "side": 16},
        sg.write_png16: {"path": folder / "other.png", "image": pixels[0]},
        evaluation.metamer_set: {
            "references": photographs,
            "metamers": metamers,
            "stage": "early",
            "members": ["tiny"],
            "validity": None,
        },
        evaluation.seen_by: {"model": model, "pictures": pixels},
        nm.compute_activations: {
            "model": model,
            "stimuli": photographs,
            "stages": ["early"],
            "run": RunOptions(),
        },
        nm.rsa.control_rdms: {"stimuli": photographs, "controls": ["pixels"], "column": "category"},
        nm.rsa.streamed_rdms: {
            "model": model,
            "stimuli": photographs,
            "stages": ["early"],
            "measure": "spearman",
            "scratch": None,
            "run": RunOptions(),
        },
    }


def calls_of_brains(folder: Path) -> dict[Any, dict[str, Any]]:
    ids = [f"{kind}{i}" for kind in KINDS for i in range(6)]
    table = pd.DataFrame(
        {
            "id": ids,
            "kind": [one[:2] for one in ids],
            "reference_id": [f"RE{one[2:]}" for one in ids],
            "category": [("cat", "dog")[int(one[2:]) % 2] for one in ids],
        }
    )
    shown = [int(one[2:]) % 2 for one in ids]
    observations = pd.DataFrame(
        {
            "condition": ids * 2,
            "presentation": [0] * 18 + [1] * 18,
            "run": ["1"] * 18 + ["2"] * 18,
            "session": ["ab"[k] for k in shown * 2],
        }
    )
    voxels = pd.DataFrame(
        {"subject": "S1", "roi": ["V1"] * 5 + ["V2"] * 5, "i": range(10), "j": 0, "k": 0}
    )
    values = RANDOM.normal(size=(36, 10))
    patterns = fmri.Patterns(values=values, observations=observations, voxels=voxels)
    path = folder / "patterns.h5"
    fmri.write_patterns(patterns, path)
    activations = nm.Activations(
        ids=tuple(ids),
        stages=("early",),
        n_units={"early": 9},
        arrays={"early": RANDOM.random((18, 9))},
    )
    subjects = {"S1": patterns}
    near, responses = (
        nm.rsa.Spheres(np.ones((3, 3, 3), dtype=bool), np.eye(4), 1.5),
        RANDOM.random((6, 27)),
    )
    models = rdms(1, list("abcdef"), {"name": ["m"]})
    cube = RANDOM.random((18, 27))
    return {
        fmri.concat_patterns: {"parts": [patterns]},
        fmri.join_regions: {"parts": [patterns]},
        fmri.leave_one_run_out_accuracy: {
            "patterns": patterns,
            "conditions": None,
            "standardize": True,
        },
        fmri.noise_gain: {"design": pd.DataFrame({"event_0001": [1.0, 0, 0], "constant": 1.0})},
        fmri.read_patterns: {"path": path},
        fmri.select_voxels: {
            "patterns": patterns,
            "conditions": ids[:6],
            "n_per_roi": 2,
            "threshold": None,
        },
        fmri.split_half_reliability: {"patterns": patterns, "conditions": None},
        fmri.voxel_reliability: {"patterns": patterns, "conditions": None},
        fmri.write_patterns: {"patterns": patterns, "path": folder / "written.h5"},
        fmri.write_surface_map: {
            "path": folder / "map.gii",
            "values": RANDOM.random(9),
            "name": "m",
        },
        fmri.write_volume_map: {
            "path": folder / "map.nii",
            "values": RANDOM.random(27),
            "mask": np.ones((3, 3, 3), dtype=bool),
            "affine": np.eye(4),
        },
        nm.rsa.activation_rdms: {"activations": activations, "table": table, "measure": "spearman"},
        nm.rsa.activation_units: {"activations": activations, "table": table},
        nm.rsa.class_labels: {"table": table, "column": "category"},
        nm.fit_encoding: {
            "activations": activations,
            "patterns_by_subject": subjects,
            "table": table,
            "solver": "ridge",
            "scheme": "by image",
            "tests": None,
            "n_folds": None,
            "alphas": (1.0, 10.0),
            "n_permutations": 0,
            "correction": "fdr",
            "allow_repeats": True,
            "seed": 0,
        },
        nm.rsa.image_type_question: {
            "conditions": ids,
            "responses": cube,
            "table": table,
            "pair": ("RE", "AN"),
        },
        nm.rsa.image_type_reliability: {
            "patterns_by_subject": subjects,
            "table": table,
            "image_types": ("RE",),
        },
        nm.rsa.model_questions: {
            "conditions": list("abcdef"),
            "responses": responses,
            "models": models,
        },
        nm.rsa.pattern_rdms: {
            "patterns_by_subject": subjects,
            "table": table,
            "measure": "spearman",
        },
        nm.rsa.pattern_units: {"patterns_by_subject": subjects, "table": table},
        nm.rsa.reliability_question: {
            "patterns": patterns,
            "responses": RANDOM.random((36, 27)),
            "conditions": ids,
        },
        nm.rsa.run_responses: {
            "patterns": patterns,
            "responses": RANDOM.random((36, 27)),
            "folds": "run",
            "noise": "shrinkage_diag",
        },
        nm.run_searchlight: {
            "question": nm.rsa.model_questions(list("abcdef"), responses, models)[0],
            "neighborhoods": near,
        },
        nm.rsa.searchlight_rdms: {
            "responses": responses,
            "neighborhoods": near,
            "centers": np.array([0, 1]),
            "measure": "spearman",
        },
        nm.rsa.session_labels: {"patterns": patterns, "table": table},
    }


def calls_of_rdms(folder: Path) -> dict[Any, dict[str, Any]]:
    images = [f"im{i}" for i in range(8)]
    network = rdms(3, images, {"stage": list(STAGES), "system": ["network"] * 3})
    subjects, regions = ["S0"] * 3 + ["S1"] * 3, ["V1", "V4", "LO"] * 2
    brain = rdms(6, images, {"subject": subjects, "roi": regions, "system": ["brain"] * 6})
    one_region = rdms(3, images, {"subject": ["S0", "S1", "S2"], "roi": ["V1"] * 3})
    ids = [f"{kind}{i}" for kind in KINDS for i in range(6)]
    places = {"subject": ["S0", "S1", "S2"], "roi": ["V1"] * 3, "system": ["brain"] * 3}
    typed = rdms(
        3, ids, places, kind=[one[:2] for one in ids], reference_id=[one[2:] for one in ids]
    )
    some, orders = RANDOM.random((3, 28)), nm.stats.permutation_orders(8, 3, 0)
    other, counts = RANDOM.random((3, 28)), np.ones((3, 8), dtype=int)
    repeated, names = RANDOM.random((12, 5)), list("abcd") * 3
    trend = pd.DataFrame(
        {
            "system": "network",
            "quantity": "similarity",
            "representation": [*STAGES] * 2,
            "pair": ["RE-AI"] * 3 + ["RE-AN"] * 3,
            "value": RANDOM.random(6),
            "similarity": RANDOM.random(6),
            "p": 0.5,
        }
    )
    quick = {"comparator": "spearman", "join": "exact", "seed": 0, "confidence": 0.95}
    both = {"network": network, "brain": brain, "image_type": None}
    nm.write_rdms(network, folder / "network.h5")
    return {
        nm.rsa.align_rdms: {"a": network, "b": brain, "by": "condition", "join": "exact"},
        nm.rsa.best_layers: {
            "network": network,
            "brain": brain,
            "n_resamples": 2,
            "folds": nm.rsa.CrossValidation(n_repeats=1),
        },
        nm.rsa.bootstrap_comparison: {
            "models": some,
            "data": other,
            "counts": counts,
            "comparator": "spearman",
            "ceiling": True,
            "groups": None,
            "subject_counts": None,
        },
        nm.stats.combine_p: {"p": [0.1, 0.2], "how": "fisher"},
        nm.compare_rdms: {
            "a": network,
            "b": brain,
            "image_type": None,
            "controls": None,
            "n_resamples": 2,
            "n_permutations": 2,
            "blocks": None,
            "classes": "fixed",
            **quick,
        },
        nm.rsa.compute_rdm: {
            "values": RANDOM.random((5, 6)),
            "measure": "spearman",
            "ids": list("abcde"),
            "noise": None,
        },
        nm.compute_rdms: {
            "x": RANDOM.random((5, 6)),
            "measure": "spearman",
            "ids": list("abcde"),
        },
        nm.stats.correct_families: {
            "table": trend,
            "over": {"representation": "layers"},
            "within": (),
            "how": "fdr",
            "p": "p",
        },
        nm.stats.correct_p: {"p": np.array([0.1, 0.2]), "method": "fdr"},
        nm.stats.count_orders: {"n": 5, "blocks": None},
        nm.rsa.crossnobis_rdm: {
            "values": repeated,
            "conditions": names,
            "folds": [str(i // 4) for i in range(12)],
            "noise": None,
            "order": None,
        },
        nm.rsa.dual_bootstrap: {
            "models": some,
            "data": other,
            "counts": counts,
            "subject_counts": np.ones((3, 3), dtype=int),
            "comparator": "spearman",
            "confidence": 0.95,
        },
        nm.stats.effect_for_power: {"power": 0.8, "n": 20, "alpha": 0.05, "tails": 1},
        nm.rsa.estimate_noise: {
            "residuals": RANDOM.normal(size=(30, 5)),
            "method": "shrinkage_diag",
            "dof": None,
        },
        nm.rsa.fit_layer_weights: {
            "layers": some,
            "targets": other,
            "weights": None,
            "center": True,
        },
        nm.flexible_models: {
            **both,
            "folds": nm.rsa.CrossValidation(n_repeats=1),
            "n_resamples": 2,
            **quick,
        },
        nm.rsa.hierarchy_test: {
            **both,
            "rois": ["V1", "V4", "LO"],
            "preferred": "center",
            "n_permutations": 19,
            **quick,
        },
        nm.stats.joint_p: {"values": np.array([0.1, 0.2]), "samples": RANDOM.random((20, 2))},
        nm.rsa.image_type_difference: {
            "rdms": typed,
            "first": ("RE", "AI"),
            "second": ("RE", "AN"),
            "n_resamples": 2,
            **quick,
        },
        nm.rsa.image_type_similarity: {
            "rdms": typed,
            "pairs": [("RE", "AI")],
            "n_resamples": 2,
            **quick,
        },
        nm.compare_image_types: {
            "rdms": typed,
            "units": None,
            "blocks": None,
            "categories": None,
            "sessions": None,
            "reliability": None,
            "options": None,
            "n_resamples": 2,
            "n_permutations": 2,
        },
        nm.rsa.image_type_trends: {"table": trend, "system": "network"},
        nm.rsa.label_rdms: {
            "dissimilarities": some,
            "conditions": images,
            "rdm_descriptors": {"stage": list("abc")},
            "pattern_descriptors": None,
            "measure": "x",
            "provenance": None,
        },
        nm.layer_by_roi: {**both, "n_resamples": 2, **quick},
        nm.layer_matrix: {**both, "n_resamples": 2, "n_permutations": 3, "blocks": None, **quick},
        nm.stats.layers_t_test: {
            "table": trend,
            "first": "RE-AI",
            "second": "RE-AN",
            "over": "representation",
            "pair": "pair",
            "value": "similarity",
        },
        nm.linear_cka: {
            "x": RANDOM.random((6, 4)),
            "y": RANDOM.random((6, 5)),
            "debiased": False,
            "x_ids": None,
        },
        nm.stats.mann_kendall: {"values": [1.0, 2.0, 3.0, 2.5]},
        nm.stats.max_t_p: {"observed": np.array([1.0, 2.0]), "null": RANDOM.random((20, 2))},
        nm.noise_ceiling: {"rdms": one_region, "comparator": "spearman", "pool": "scaled"},
        nm.stats.n_for_power: {"dz": 0.5, "power": 0.8, "alpha": 0.05, "tails": 1},
        nm.stats.paired_power: {"dz": 0.5, "n": 20, "alpha": 0.05, "tails": 1},
        nm.stats.paired_t: {"first": [1.0, 2.0, 3.0], "second": [2.0, 2.5, 3.1]},
        nm.rsa.partial_spearman: {"a": some, "b": other, "controls": some[:1]},
        nm.stats.permutation_orders: {"n": 5, "n_permutations": 3, "seed": 0, "blocks": None},
        nm.rsa.permuted_comparison: {
            "a": some,
            "b": other,
            "orders": orders,
            "comparator": "spearman",
        },
        nm.read_rdms: {"path": folder / "network.h5"},
        nm.rsa.residuals_of: {"values": repeated, "conditions": names},
        nm.select_image_type: {"rdms": typed, "image_type": "RE", "by": "reference_id"},
        nm.rsa.take_conditions: {"rdms": brain, "rows": [0, 1, 2, 3]},
        nm.write_rdms: {"rdms": brain, "path": folder / "brain.h5"},
        nm.commands.compare: {
            "a": folder / "network.h5",
            "b": folder / "network.h5",
            "comparator": ["spearman"],
            "image_type": None,
            "join": "exact",
            "controls": None,
            "n_resamples": 2,
            "n_permutations": 0,
            "seed": 0,
        },
        encoding.column_correlations: {
            "predicted": RANDOM.random((5, 3)),
            "measured": RANDOM.random((5, 3)),
        },
        encoding.reduce_features: {"features": RANDOM.random((5, 9))},
    }


def calls_of_tables(folder: Path) -> dict[Any, dict[str, Any]]:
    generators = ["standard-rgb", "standard-gray", "blur-rgb", "blur-gray"]
    everyone = [*generators, "judge0", "judge1"]
    index = pd.MultiIndex.from_product([generators, everyone, [f"photo{i}" for i in range(6)]])
    hits = index.to_frame(index=False, name=["members", "evaluator", "reference_id"])
    flag = pd.array([True] * len(hits), dtype="boolean")
    hits = hits.assign(
        set=hits["members"],
        stage="late",
        setting="unbounded",
        id=hits["reference_id"] + "m",
        target="own",
        ways=1000,
        rule="all classes",
        evaluator_weights="simulated",
        trained=True,
        took_part=hits["members"] == hits["evaluator"],
        same_class=flag,
        above_null=flag,
        valid=flag,
        hit=RANDOM.integers(0, 2, len(hits)).astype(float),
    )
    networks = pd.DataFrame(
        {
            "network": everyone,
            "training": ["standard"] * 2 + ["blur"] * 2 + ["standard", "blur"],
            "color": ["rgb", "gray"] * 3,
        }
    )
    sets = ["a", "b", "c", "d", "a+b", "a+c", "b+c", "a+d", "b+d", "c+d", "a+b+c", "b+c+d"]
    scores = pd.DataFrame({"set": sets, "members": sets, "score": RANDOM.random(len(sets))})
    members = evaluation.random_sets(list("abcd"), n_sets=3, sizes=(2, 3))
    people = {
        "standard": dict(zip(STAGES, (0.9, 0.3, 0.1))),
        "robust": dict(zip(STAGES, (0.9, 0.8, 0.6))),
    }
    trials = name_columns(
        behavior.simulate_recognition(people, {"standard": people}, n_people=3, n_images=48)
    )
    lenient = behavior.Screening(max_fast=1.0, max_missing=1.0, min_screening=0.0, min_catch=0.0)
    usable = behavior.screen_trials(trials, lenient).trials
    cells = behavior.trial_cells(usable)
    profiles = behavior.Profiles(
        values=RANDOM.random((5, 2, 3)),
        participants=list("abcde"),
        models=["m0", "m1"],
        stages=list(STAGES),
        excluded=pd.DataFrame(),
    )
    draws = {"n_resamples": 2, "confidence": 0.95, "seed": 0}
    observers = {"hits": hits, "evaluators": "others", "include_untrained": False, **draws}
    factors = {
        "networks": networks,
        "factors": ("training", "color"),
        "evaluator_factor": None,
        "validity": "valid",
    }
    groups = np.array([0, 0, 0, 1, 1, 1])
    return {
        evaluation.check_difference_table: {
            "table": pd.DataFrame(
                {"network": list("abc"), "appearances": [5, 6, 4], "difference": [0.1, -0.1, 0.0]}
            ),
            "n_sets": 10,
            "sd": 0.1,
            "sizes": (2, 3),
        },
        evaluation.difference_in_means: {"scores": scores, "n_permutations": 3, **draws},
        evaluation.membership_regression: {"scores": scores, "confidence": 0.95},
        evaluation.epsilon_settings: {"radii": (0.1, None), "ball": "linf", "center": "start"},
        evaluation.epsilon_comparison: {"hits": hits, "baseline": "unbounded", **draws},
        evaluation.jensen_shannon: {"p": np.array([[0.5, 0.5]]), "q": np.array([[0.2, 0.8]])},
        evaluation.observer_matrix: observers,
        evaluation.observer_conditions: {**observers, **factors},
        evaluation.observer_tests: {**observers, **factors, "n_permutations": 3},
        evaluation.random_sets: {"names": list("abcd"), "n_sets": 3, "sizes": (2, 3), "seed": 0},
        evaluation.plan_sets: {
            "folder": folder / "plan",
            "sets": members,
            "stage": "middle",
            "preset": "boehm2025",
        },
        evaluation.representational_divergence: {
            "references": RANDOM.random((6, 5)),
            "seed": 0,
            "n_permutations": 2,
            "metamers": RANDOM.random((6, 5)),
            "max_pairs": 100,
            "n_grid": 50,
        },
        evaluation.set_scores: {
            "hits": hits,
            "raters": "held-out",
            "held_out": ["judge0", "judge1"],
            "validity": "valid",
            "ways": 1000,
        },
        behavior.bootstrap_curves: {"trials": usable, **draws},
        behavior.cells_on_same_images: {"trials": usable},
        behavior.complete_profiles: {
            "cells": cells[cells["observer"] == "human"],
            "models": list(people),
            "stages": list(STAGES),
            "strict": False,
            "what": "",
        },
        behavior.confusion_table: {"trials": usable},
        behavior.curve_correlation: {"curves": behavior.recognition_curves(cells)},
        behavior.error_consistency: {"trials": usable, "min_common": 5},
        behavior.kappa: {"observed": np.array([0.5]), "expected": np.array([0.2])},
        behavior.mixed_anova: {
            "first": profiles,
            "second": profiles,
            "analysis": "",
            "observer": "",
        },
        behavior.mixed_f: {"values": RANDOM.random((6, 3)), "groups": groups, "effect": "observer"},
        behavior.permutation_p: {"null": RANDOM.random(9), "observed": 0.5},
        behavior.permutation_table: {
            "anova": behavior.repeated_anova(profiles),
            "data": profiles,
            "n_permutations": 3,
            "seed": 0,
        },
        behavior.permute_mixed: {
            "values": RANDOM.random((6, 3)),
            "groups": groups,
            "n_permutations": 3,
            "seed": 0,
        },
        behavior.permute_repeated: {
            "values": RANDOM.random((6, 2, 3)),
            "n_permutations": 3,
            "seed": 0,
        },
        behavior.post_hoc: {
            "profiles": profiles,
            "correction": "holm",
            "analysis": "",
            "observer": "human",
        },
        behavior.proportion_cells: {"table": cells.assign(stimulus="", data="")},
        behavior.recognition_curves: {"cells": cells, "sem": "between"},
        behavior.repeated_anova: {"profiles": profiles, "analysis": "", "observer": "human"},
        behavior.repeated_f: {"values": RANDOM.random((6, 2, 3)), "effect": "model"},
        behavior.screen_trials: {
            "table": trials,
            "rules": lenient,
            "rt_unit": "ms",
            "missing": "exclude",
        },
        behavior.select_cells: {"cells": cells, "models": ["standard"], "stages": list(STAGES)},
        behavior.summarize_consistency: {
            "pairs": behavior.error_consistency(usable, min_common=5),
            "trials": None,
        },
        behavior.trial_cells: {"trials": usable},
    }


@pytest.mark.parametrize("part", [calls_of_images, calls_of_brains, calls_of_rdms, calls_of_tables])
@pytest.mark.filterwarnings("ignore")
def test_one_wrong_argument_is_an_input_error_or_makes_sense(part, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    faults = []
    for function, good in part(tmp_path).items():
        function(**good)
        for name in good:
            for what, value in JUNK.items():
                try:
                    function(**{**good, name: value})
                except InputError as refused:
                    if "\n" in str(refused):
                        faults.append(f"{function.__name__}({name}={what}): several lines")
                except OutputError:  # the path of an output is a folder, or in none
                    pass
                except Exception as error:
                    faults.append(
                        f"{function.__name__}({name}={what}): {type(error).__name__}: {error}"
                    )
    assert not faults, "\n".join(faults)


def test_every_public_function_is_checked_wherever_it_is_imported_from():
    public = {**PUBLIC, "divergence": divergence}
    assert len(public) > 180
    for name, function in public.items():
        plain = inspect.unwrap(function)
        assert plain is not function, f"{name} is not marked with checked"
        assert getattr(import_module(plain.__module__), plain.__name__) is function, name
        known = arguments._annotations(plain)
        assert set(inspect.signature(plain).parameters) <= set(known), (
            f"{name}: annotations that are not understood"
        )


def test_lists_tensors_and_columns_give_the_numbers_of_arrays():
    first, second = np.random.default_rng(1).random((2, 3, 16, 16))
    expected = sg.image_distances(first, second)
    assert sg.image_distances(first.tolist(), second.tolist()) == expected
    traced = torch.tensor(first, requires_grad=True)
    assert sg.image_distances(traced, torch.from_numpy(second)) == expected
    x, y = np.random.default_rng(2).random((2, 6, 4))
    assert nm.linear_cka(x.tolist(), torch.from_numpy(y)) == nm.linear_cka(x, y)
    near = nm.rsa.Spheres(np.ones((3, 3, 3), dtype=bool), np.eye(4), 1.5)
    responses = np.random.default_rng(3).random((6, 27))
    np.testing.assert_array_equal(
        nm.rsa.searchlight_rdms(responses.tolist(), near, [0, 1]),
        nm.rsa.searchlight_rdms(responses, near, np.array([0, 1])),
    )
    values, names = np.random.default_rng(4).random((6, 2)), ["a", "b", "c"] * 2
    expected = nm.rsa.residuals_of(values, names)[0]
    for conditions in (np.array(names), pd.Series(names), tuple(names)):
        np.testing.assert_array_equal(nm.rsa.residuals_of(values.tolist(), conditions)[0], expected)
    assert (
        nm.stats.correct_p(pd.Series([0.01, 0.04])).tolist()
        == nm.stats.correct_p([0.01, 0.04]).tolist()
    )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([[1, 2], [3]], r"linear_cka: x cannot be made an array: .* Give rows of equal length"),
        (np.array([["a", "b"]] * 6), r"^linear_cka: x must be numbers, not text\.$"),
        (np.array([[None, 1.0]] * 6), r"x must be numbers, not objects"),
        (np.ones((6, 2)) * 1j, r"x must be numbers, not complex numbers"),
        (np.ma.masked_equal(np.arange(12.0).reshape(6, 2), 3), r"x has masked values; fill them"),
        (np.float64(3), r"x must be an array, not 3\.0"),
        (pd.DataFrame(np.ones((6, 2))), r"x must be an array, not a DataFrame"),
    ],
)
def test_what_is_no_array_of_numbers_is_refused(values, message):
    with pytest.raises(InputError, match=message):
        nm.linear_cka(values, np.random.default_rng(0).random((6, 3)))


def test_shapes_are_named_with_their_axes_and_where_they_were_seen():
    image = np.zeros((3, 8, 9))
    told = (
        r"image_distances: reference must have the shape \(3, height, width\), not \(3, 8, 8\); "
        r"width is 9 in image"
    )
    with pytest.raises(InputError, match=told):
        sg.image_distances(image, image[:, :, :8])
    with pytest.raises(
        InputError, match=r"image must have the shape \(3, height, width\), not \(1, 8, 9\)"
    ):
        sg.image_distances(image[:1], image)
    with pytest.raises(
        InputError, match=r"image_distances: reference has 1 values that are NaN or infinite"
    ):
        sg.image_distances(image, np.where(np.arange(216).reshape(3, 8, 9) == 5, np.nan, image))
    with pytest.raises(
        InputError, match=r"must have the shape \(\.\.\., people, models, stages\), not \(3, 2\)"
    ):
        behavior.repeated_f(np.zeros((3, 2)), "model")
    with pytest.raises(InputError, match="unknown effect 'people'"):
        behavior.repeated_f(np.zeros((3, 2, 2)), "people")
    with pytest.raises(InputError, match=r"rows must be whole numbers, not float64"):
        nm.rsa.take_conditions(rdms(1, list("abcdef"), {}), [0.5, 1.5, 2.5, 3.5])


def test_numbers_that_are_none_are_refused_and_infinite_ones_where_they_mean_nothing():
    with pytest.raises(InputError, match=r"effect_for_power: n is inf; it must be a finite number"):
        nm.stats.effect_for_power(0.8, math.inf)
    with pytest.raises(InputError, match=r"permutation_p: observed is nan"):
        behavior.permutation_p(np.ones(9), math.nan)
    with pytest.raises(InputError, match=r"null has 1 values that are NaN"):
        behavior.permutation_p(np.array([1.0, math.nan]), 0.5)
    assert behavior.permutation_p(np.array([1.0, math.inf]), math.inf) == (2 / 3, 1)
    with pytest.raises(InputError, match=r"Penalty: weight is nan; it must be a number"):
        sg.Penalty(kind="tv", weight=math.nan, power=1.0)
    with pytest.raises(InputError, match=r"the seed is -1; give a whole number of at least 0"):
        nm.stats.permutation_orders(5, 3, -1)
    with pytest.raises(InputError, match=r"n must be a whole number, not True"):
        nm.stats.permutation_orders(True, 3, 0)
    with pytest.raises(InputError, match=r"permutation_p: observed is nan"):
        behavior.permutation_p(np.ones(9), np.array(math.nan))
    assert behavior.permutation_p(np.ones(9), torch.tensor(0.5)) == (1.0, 9)


def test_tables_say_what_they_lack_what_they_have_and_where_such_a_table_comes_from():
    table = pd.DataFrame({"id": ["a"], "kind": ["RE"]})
    with pytest.raises(
        InputError,
        match=r"the stimulus table lacks the column\(s\) reference_id; it has id, kind\. A ",
    ):
        nm.rsa.image_type_question(["a"], np.ones((1, 3)), table, ("RE", "AN"))
    with pytest.raises(
        InputError,
        match=r"lacks the column\(s\) pair, representation, similarity; it has id, kind\. Give that of",
    ):
        nm.stats.layers_t_test(table)
    with pytest.raises(
        InputError, match=r"the table lacks the column\(s\) region; it has .*name its columns"
    ):
        nm.stats.layers_t_test(
            pd.DataFrame({"representation": [], "pair": [], "similarity": []}), over="region"
        )
    with pytest.raises(
        InputError,
        match=r"the table of scores lacks the column\(s\) set.* Make it with set_scores\.",
    ):
        evaluation.membership_regression(table)
    with pytest.raises(
        InputError, match=r"the table of trials lacks .* it has none\. Make it with screen_trials\."
    ):
        behavior.trial_cells(pd.DataFrame())


def test_options_that_are_passed_on_are_checked_too():
    network = rdms(2, list("abcdef"), {"stage": ["a", "b"]})
    brain = rdms(2, list("abcdef"), {"subject": ["S1", "S2"], "roi": ["V1"] * 2})
    with pytest.raises(
        InputError, match=r"flexible_models: n_resamples must be a whole number, not None"
    ):
        nm.rsa.best_layers(network, brain, n_resamples=None)
    with pytest.raises(
        InputError, match=r"ImageTypeOptions: n_resamples is of the wrong type.* not 'many'"
    ):
        nm.compare_image_types(network, n_resamples="many")
    with pytest.raises(
        InputError, match=r"compare_rdms: b must be a RDMs, not 'brain\.h5'; read_rdms opens files"
    ):
        nm.compare_rdms(network, "brain.h5")
    with pytest.raises(
        InputError, match=r"blocks must be .*a mapping of text to text.*, not \{'a': 1\}"
    ):
        nm.compare_rdms(network, brain, blocks={"a": 1})

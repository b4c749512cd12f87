"""Compare networks and visual cortex: RDMs, voxel encoding, reports. Names are loaded when first used (PEP 562)."""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "activations": ["Activations", "compute_activations", "read_activations"],
        "rsa.bootstrap": ["bootstrap_comparison", "dual_bootstrap"],
        "rsa.ceilings": ["noise_ceiling"],
        "rsa.cka": ["linear_cka"],
        "rsa.compare": ["compare_rdms", "layer_by_roi"],
        "rsa.controls": ["control_rdms"],
        "rsa.partial": ["partial_spearman"],
        "rsa.permuted": ["permuted_comparison"],
        "rsa.inference": ["combine_p", "correct_families", "joint_p", "mann_kendall"],
        "rsa.kinds": ["kind_difference", "kind_similarity"],
        "rsa.kind_nulls": ["class_labels", "session_labels"],
        "rsa.kind_options": ["KindOptions"],
        "rsa.kind_tests": ["kind_tests"],
        "rsa.kind_trends": ["kind_trends"],
        "rsa.paired": ["effect_for_power", "layers_t_test", "n_for_power", "paired_power", "paired_t"],
        "rsa.permutation": ["count_orders", "permutation_orders"],
        "rsa.subsample": ["activation_units", "pattern_units"],
        "rsa.measures": ["MEASURES"],
        "rsa.noise": ["crossnobis_rdm", "estimate_noise", "residuals_of"],
        "rsa.streaming": ["streamed_rdms"],
        "encoding": ["fit_encoding"],
        "experiment_page": ["join_key", "write_experiment_page"],
        "rsa.rdm": [
            "activation_rdms",
            "align_rdms",
            "compute_rdm",
            "pattern_rdms",
            "read_rdms",
            "select_kind",
            "write_rdms",
        ],
        "report": ["build_report"],
        "statistics": ["correct_p", "max_t_p"],
        "store": ["InputError"],
        "study.commands": ["compare_files", "encode_files", "make_patterns", "make_rdms"],
        "study.kind_commands": ["compare_kinds"],
        "study.stimulus_commands": ["make_controls", "make_metamers", "make_null", "make_stimuli", "read_images"],
        "study.evaluation_commands": ["evaluate_metamers", "finished_sets", "make_model_sets", "plan_model_sets"],
        "study.run": ["demo_settings", "run_study"],
        "study.settings": ["StudySettings", "check_settings", "read_settings"],
        "study.template": ["write_template"],
        "zoo": ["list_models", "load_model", "load_models"],
    },
)

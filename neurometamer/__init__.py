"""Compare networks and visual cortex: RDMs, voxel encoding, reports. Names are loaded when first used (PEP 562)."""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "activations": ["Activations", "compute_activations", "read_activations"],
        "rsa.compare": ["compare_rdms", "kind_difference", "kind_similarity", "layer_by_roi", "noise_ceiling"],
        "rsa.flexible": ["best_layers", "fit_layer_weights", "flexible_models"],
        "rsa.hierarchy": ["hierarchy_test"],
        "rsa.model_brain": ["layer_matrix"],
        "rsa.neighborhoods": ["Disks", "Spheres"],
        "rsa.searchlight": [
            "kind_question",
            "model_questions",
            "reliability_question",
            "run_searchlight",
            "searchlight_rdms",
        ],
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
        "store": ["InputError"],
        "study.commands": ["compare_files", "encode_files", "make_patterns", "make_rdms"],
        "study.rsa_commands": ["layer_files", "searchlight_files"],
        "study.stimulus_commands": ["make_controls", "make_metamers", "make_null", "make_stimuli", "read_images"],
        "study.evaluation_commands": ["evaluate_metamers", "finished_sets", "make_model_sets", "plan_model_sets"],
        "study.run": ["demo_settings", "run_study"],
        "study.settings": ["StudySettings", "check_settings", "read_settings"],
        "study.template": ["write_template"],
        "zoo": ["list_models", "load_model", "load_models"],
    },
)

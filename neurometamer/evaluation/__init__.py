"""Evaluate metamers: who recognizes them, how they look, how they change representations.

Names are loaded when first used.
"""

import lazy_loader

# recognizability, image_quality and divergence have the names of their modules: import them from
# there.
__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "divergence": ["jensen_shannon", "representational_divergence"],
        "image_metrics": ["METRICS"],
        "image_quality": ["measure_images"],
        "model_sets": [
            "check_difference_table",
            "difference_in_means",
            "membership_regression",
            "plan_sets",
            "random_sets",
            "run_sets",
            "set_scores",
        ],
        "observers": ["observer_conditions", "observer_matrix", "observer_tests"],
        "sets": ["MetamerSet", "metamer_set", "read_metamer_set", "read_metamers"],
        "recognizability": [
            "epsilon_comparison",
            "epsilon_settings",
            "recognition_table",
            "recognizability_curves",
            "seen_by",
        ],
    },
)

"""Recognition experiments: trials in; curves, analyses of variance and agreement of people and networks out."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "agreement": ["curve_correlation", "error_consistency", "kappa", "summarize_consistency"],
        "anova": [
            "Profiles",
            "complete_profiles",
            "mixed_anova",
            "permutation_table",
            "post_hoc",
            "repeated_anova",
        ],
        "curves": [
            "bootstrap_curves",
            "cells_on_same_images",
            "confusion_table",
            "proportion_cells",
            "recognition_curves",
            "select_cells",
            "trial_cells",
        ],
        "simulate": ["simulate_recognition"],
        "permutation": [
            "mixed_f",
            "permutation_p",
            "permute_mixed",
            "permute_repeated",
            "repeated_f",
        ],
        "trials": ["ROLES", "Screening", "Screened", "read_recognition", "screen_trials"],
    },
)

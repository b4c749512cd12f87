"""Recognition experiments: trials in; curves, analyses of variance and agreement out."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "agreement": ["curve_correlation", "error_consistency", "kappa", "summarize_consistency"],
        "anova": [
            "mixed_anova",
            "mixed_f",
            "permutation_p",
            "permutation_table",
            "permute_mixed",
            "permute_repeated",
            "post_hoc",
            "repeated_anova",
            "repeated_f",
        ],
        "curves": [
            "Profiles",
            "bootstrap_curves",
            "cells_on_same_images",
            "complete_profiles",
            "confusion_table",
            "proportion_cells",
            "recognition_curves",
            "select_cells",
            "simulate_recognition",
            "trial_cells",
        ],
        "trials": ["ROLES", "Screening", "Screened", "read_recognition", "screen_trials"],
    },
)

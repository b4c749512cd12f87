"""Voxel encoding: ridge regression from the stages of a network to the voxels of a region."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "design": ["SCHEMES", "EncodingOptions"],
        "generalization": ["COLUMNS", "fit_encoding"],
        "solvers": [
            "ALPHAS",
            "SOLVERS",
            "Ridge",
            "Solver",
            "column_correlations",
            "reduce_features",
        ],
    },
)

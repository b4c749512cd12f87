"""Brain files in, patterns out: BOLD runs, betas, ROI patterns, reliability.

Names are loaded when first used.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "betas": ["estimate_betas", "event_design", "noise_gain", "read_betas", "write_betas"],
        "bold": ["BoldRun", "read_run", "read_runs", "read_voxels"],
        "maps": ["read_mesh", "read_surface_patterns", "write_surface_map", "write_volume_map"],
        "patterns": [
            "Patterns",
            "concat_patterns",
            "join_regions",
            "read_patterns",
            "write_patterns",
        ],
        "reliability": [
            "leave_one_run_out_accuracy",
            "select_voxels",
            "split_half_reliability",
            "voxel_reliability",
        ],
        "rois": ["read_masks"],
        "simulate": [
            "SimulatedSubject",
            "SimulatedTruth",
            "SimulationOptions",
            "read_truth",
            "simulate_patterns",
            "simulate_subject",
            "write_truth",
        ],
    },
)

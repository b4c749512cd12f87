"""Make the images: photographs, adversarial images, metamers, controls.

Names are loaded when they are first used.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "adversarial": ["adversarial_interference", "adversarial_noise", "confirm_saved"],
        "animation": ["animate_folder", "frame_recorder", "write_animation"],
        "categories": ["sixteen_classes", "to_sixteen"],
        "controls": ["CONTROLS", "control_images"],
        "criteria": ["judge", "same_class"],
        "depth": ["depth_units", "resolve_stage"],
        "synthesis.constraints": ["Limits"],
        "synthesis.loop": ["StepOptions", "descend"],
        "greedy": ["greedy_interference"],
        "similarity": ["inversion_loss", "pearson", "snr_db_amplitude", "snr_db_power", "spearman"],
        "features": ["gabor_energy", "luminance", "pixel_features"],
        "matching": ["at_size", "greyscale_view", "match_stages"],
        "metamers": ["confirm_metamers", "model_metamers"],
        "nulls": ["NullDistribution", "null_distribution", "read_null"],
        "pgd": ["ATTACKS", "AwayFrom", "attack_images", "confirm_attacks"],
        "synthesis.objectives": ["Progress"],
        "presets": ["PRESETS", "Penalty", "Recipe"],
        "photographs": ["Preprocessing", "load_photographs", "packaged_photographs", "read_images"],
        "models": ["StagedModel", "check_model", "predict", "resolve_device", "stage_model"],
        "stored_images": ["StoredImages", "read_png16", "write_png16"],
        "stimuli": [
            "StimulusSet",
            "concat_stimuli",
            "image_distances",
            "read_stimuli",
            "write_contact_sheet",
            "write_pictures",
            "write_records",
            "write_stimuli",
        ],
        "targets": ["choose_targets"],
    },
)

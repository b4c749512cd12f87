"""Make the images: photographs, adversarial noise, adversarial interference. Names are loaded when first used."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "adversarial": ["adversarial_interference", "adversarial_noise", "choose_targets", "confirm_saved"],
        "classes16": ["sixteen_classes", "to_sixteen"],
        "descent": ["descend"],
        "lowlevel": ["gabor_energy", "luminance", "pixel_features"],
        "nulls": ["NullDistribution", "null_distribution", "read_null"],
        "regular": ["Preprocessing", "load_photographs", "packaged_photographs"],
        "staged": ["StagedModel", "check_model", "predict", "resolve_device", "stage_model"],
        "stimuli": ["StimulusSet", "StoredImages", "concat_stimuli", "read_stimuli", "write_stimuli"],
        "validity": [
            "inversion_loss",
            "judge",
            "pearson",
            "same_class",
            "snr_db_amplitude",
            "snr_db_power",
            "spearman",
        ],
    },
)

"""Make the images: photographs, adversarial noise and interference, metamers. Names are loaded when first used."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "adversarial": ["adversarial_interference", "adversarial_noise", "choose_targets", "confirm_saved"],
        "depth": ["depth_units", "resolve_stage"],
        "descent": ["descend"],
        "lowlevel": ["gabor_energy", "luminance", "pixel_features"],
        "matching": ["at_size", "match_stages"],
        "metamers": ["confirm_metamers", "model_metamers"],
        "recipes": ["PRESETS", "Penalty", "Recipe"],
        "regular": ["Preprocessing", "load_photographs", "packaged_photographs"],
        "staged": ["StagedModel", "check_model", "predict", "resolve_device", "stage_model"],
        "stimuli": ["StimulusSet", "StoredImages", "concat_stimuli", "read_stimuli", "write_stimuli"],
    },
)

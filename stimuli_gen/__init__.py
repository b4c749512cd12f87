"""Make the images: regular photographs, adversarial noise and interference. Names are loaded when first used."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs={})

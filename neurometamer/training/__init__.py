"""Training: standard, adversarial, random perturbations, blur, noise; color or gray."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

"""Recognition experiments: trials in; curves, analyses of variance and agreement out."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

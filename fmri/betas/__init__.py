"""Betas: from BOLD runs and events to one response a presentation, or read from other programs."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

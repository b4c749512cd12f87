"""Figures from tables and arrays; `style`, `labels` and `pages` are shared by all."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

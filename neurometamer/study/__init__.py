"""A study: settings (study.toml), the plan of its steps, and one short function a step."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

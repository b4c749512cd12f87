"""A BIDS data set: its files, what is wrong with it, and the runs of its subjects."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

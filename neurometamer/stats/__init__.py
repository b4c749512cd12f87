"""Statistics that know no RDMs: resampling, permutation, families of tests, paired designs."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

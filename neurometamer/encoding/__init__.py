"""Voxel encoding: ridge regression from the stages of a network to the voxels of a region."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

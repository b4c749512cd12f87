"""Compare networks and visual cortex: RDMs, voxel encoding, reports. Names are loaded when first used (PEP 562)."""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "store": ["InputError"],
    },
)

"""Brain files in, patterns out: BOLD runs, betas, ROI patterns, reliability. Names are loaded when first used."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "patterns": ["Patterns", "concat_patterns", "read_patterns", "write_patterns"],
    },
)

"""Compare networks and visual cortex: RDMs, voxel encoding, reports.

`import neurometamer as nm` shows what most analyses need; the rest is in the namespaces `nm.rsa`,
`nm.stats`, `nm.encoding`, `nm.evaluation`, `nm.behavior`, `nm.figures`, `nm.report`, `nm.zoo`,
`nm.training`, `nm.study` and `nm.commands`. ``__init__.pyi`` lists all names; each is loaded when
first used.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

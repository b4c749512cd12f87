"""What each command does, as a function: files in, files out.

`neurometamer.cli` parses, calls and prints.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

"""The commands about images on which networks disagree: files, exit codes, folders made otherwise."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from neurometamer import commands
from neurometamer.errors import InputError
from neurometamer.run_options import RunOptions
from neurometamer.zoo import load_model
from stimuli_gen import at_size, predict, read_images, read_stimuli
from stimuli_gen.conversion import INTERPOLATIONS  # noqa: F401  (placeholder)

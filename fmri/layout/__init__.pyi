from .dataset import Layout as Layout
from .dataset import find_dataset as find_dataset
from .options import LayoutOptions as LayoutOptions

from .algebra import parse_region as parse_region
from .regions import Regions as Regions
from .regions import check_masks as check_masks
from .regions import read_masks as read_masks
from .regions import read_regions as read_regions
from .regions import region_files as region_files
from .regions import voxel_table as voxel_table

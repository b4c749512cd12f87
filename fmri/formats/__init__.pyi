from .contents import Contents as Contents
from .contents import Request as Request
from .published import FORMATS as FORMATS
from .published import Format as Format
from .published import plan_published as plan_published
from .published import read_published as read_published

"""Pooling for NumPy arrays: max, min, avg, sum and lp windows in 1-D, 2-D and 3-D, exact to the bit."""

from pooling._api import (
    adaptive_pool,
    adaptive_pool_backward,
    cpu_info,
    get_num_threads,
    global_pool,
    max_unpool,
    output_shape,
    pool,
    pool_backward,
    set_num_threads,
)
from pooling._backends import backends, use_backend
from pooling._modes import MODES as _MODES

__version__ = "0.1.0"
MODES = tuple(_MODES)

__all__ = [
    "MODES",
    "adaptive_pool",
    "adaptive_pool_backward",
    "backends",
    "cpu_info",
    "get_num_threads",
    "global_pool",
    "max_unpool",
    "output_shape",
    "pool",
    "pool_backward",
    "set_num_threads",
    "use_backend",
]

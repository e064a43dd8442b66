"""Memory: how the process asks the system for it."""

import ctypes
from contextlib import suppress

ARENAS = 2
"""Areas that the C library's allocator keeps; by itself it makes eight for each processor, as threads ask for them."""
_M_ARENA_MAX = -8
"""From malloc.h of glibc, see mallopt(3)."""


def tighten() -> bool:
    """Have threads share their memory; return whether the C library can.

    Each of a fleet's threads would otherwise keep an area as large as the most that it ever needed.
    """
    with suppress(OSError, AttributeError):
        return bool(ctypes.CDLL(None).mallopt(_M_ARENA_MAX, ARENAS))
    return False

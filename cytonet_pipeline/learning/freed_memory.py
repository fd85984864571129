"""Memory that is freed stays with the process, for the tensors of the next step.

glibc hands large blocks back to the system as soon as they are free, and the next step gets them again page by page,
each cleared by the kernel first: a quarter of the time of a step on the CPU (docs/performance.md).
"""

import ctypes
import platform

# Of glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_NEVER = -1
# The first that is accepted: before 2.35 glibc allows no more than the second.
_LARGEST_BYTES = (1 << 30, 1 << 25)


def keep_freed_memory() -> bool:
    """Let this process keep what it frees; it holds the most that it ever needed until it ends.

    Returns
    -------
    bool
        False where the system's C library is not glibc: nothing is changed.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    kept = any(mallopt(_M_MMAP_THRESHOLD, size) for size in _LARGEST_BYTES)
    return bool(mallopt(_M_TRIM_THRESHOLD, _NEVER)) and kept

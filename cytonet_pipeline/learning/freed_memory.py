"""Memory that is freed stays with the process while it computes on the CPU, for the tensors of the next step.

glibc hands large blocks back to the system as soon as they are free, and the next step gets them again page by page,
each cleared by the kernel first: up to a quarter of the time of a ResNet-50's step (docs/performance.md).
"""

import ctypes
import platform
from collections.abc import Iterator
from contextlib import contextmanager

import torch

# Of glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_NEVER = -1
# The first that is accepted: before 2.35 glibc allows no more than the second.
_LARGEST_BYTES = (1 << 30, 1 << 25)
# As far as glibc raises them by itself in a process that works with large blocks.
_USUAL_MMAP_BYTES, _USUAL_TRIM_BYTES = 1 << 25, 1 << 26


@contextmanager
def freed_memory_kept(device: torch.device) -> Iterator[None]:
    """Give back no block below 1 GiB (before glibc 2.35: 32 MiB) inside; the process may hold more than it uses.

    Afterwards what is free goes back to the system. Nothing happens where the work is not on the CPU or the C library
    is not glibc. Not to be nested: the inner end is the end.
    """
    if device.type != "cpu" or platform.libc_ver()[0] != "glibc":
        yield
        return
    libc = ctypes.CDLL(None)
    any(libc.mallopt(_M_MMAP_THRESHOLD, size) for size in _LARGEST_BYTES)
    libc.mallopt(_M_TRIM_THRESHOLD, _NEVER)
    try:
        yield
    finally:
        libc.mallopt(_M_MMAP_THRESHOLD, _USUAL_MMAP_BYTES)
        libc.mallopt(_M_TRIM_THRESHOLD, _USUAL_TRIM_BYTES)
        libc.malloc_trim(0)

"""The number of threads that fitting a probe uses."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

# A matrix product with fewer multiplications ends before a second thread helps.
_SMALL_PRODUCT = 1e9


@contextmanager
def threads_for(multiplications: float) -> Iterator[None]:
    """Use one thread while the block runs, if its matrix products are small.

    Idle threads of OpenMP and BLAS spin: two encoders probed side by side on two cores were fifteen times slower
    with two threads each than with one.

    Parameters
    ----------
    multiplications : float
        Multiplications in one of the block's matrix products.
    """
    if multiplications >= _SMALL_PRODUCT:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(before)

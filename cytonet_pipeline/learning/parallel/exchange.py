"""What CPU ranks tell each other, each to and from each, and sums of it in order of rank.

A sum of floating-point numbers depends on its order, and a training magnifies the difference. gloo's own sums go round
a ring that begins at another rank for every part of a tensor; here ranks add up alike, however they are connected.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.distributed as dist

from cytonet_pipeline.errors import TrainingError


class Exchange(ABC):
    """One rank's way to all others.

    Parameters
    ----------
    rank, ranks : int
        This one's number, and how many there are.
    """

    def __init__(self, rank: int, ranks: int) -> None:
        self._rank, self._ranks = rank, ranks

    def to_and_from_each(self, to_each: Sequence[torch.Tensor], from_each: Sequence[torch.Tensor]) -> None:
        """Send every rank what is meant for it and receive what it sends.

        Parameters
        ----------
        to_each, from_each : sequences of contiguous tensors, in order of rank
            What is received overwrites `from_each`, whose sizes both sides know.

        Raises
        ------
        TrainingError
            Another rank has ended.
        """
        from_each[self._rank].copy_(to_each[self._rank])
        self._with_others(to_each, from_each)

    @abstractmethod
    def _with_others(self, to_each: Sequence[torch.Tensor], from_each: Sequence[torch.Tensor]) -> None: ...

    @abstractmethod
    def close(self) -> None:
        """Let nobody wait for this rank any more."""

    def tell_all(self, values: torch.Tensor, from_each: Sequence[torch.Tensor]) -> None:
        """Send every rank the same and receive what it sends; as `to_and_from_each`."""
        self.to_and_from_each([values] * self._ranks, from_each)

    def sum_of_own(self, to_each: Sequence[torch.Tensor]) -> torch.Tensor:
        """Sum of what all ranks have for this one."""
        own = to_each[self._rank]
        total, *more = own.new_empty(self._ranks, *own.shape).unbind(0)
        self.to_and_from_each(to_each, [total, *more])
        # `torch.sum` would take another order from five ranks on.
        for told in more:
            total += told
        return total

    def sum_(self, values: torch.Tensor) -> torch.Tensor:
        """Sum over ranks, in place: of flat, contiguous values each rank sums a part and tells it to all."""
        parts = values.tensor_split(self._ranks)
        own = parts[self._rank].copy_(self.sum_of_own(parts))
        self.tell_all(own, parts)
        return values


def unreachable(rank: int, why: Exception) -> TrainingError:
    """The error where another rank does not answer; nearly always it has ended."""
    return TrainingError(f"rank {rank} of this training ended; its part of the log says why. Seen here: {why!r}")


class Gloo(Exchange):
    """Between machines, through the process group; where sockets are forbidden within one, too."""

    @classmethod
    def between_ranks(cls) -> "Gloo":
        """Of the ranks of the process group."""
        return cls(dist.get_rank(), dist.get_world_size())

    def _with_others(self, to_each: Sequence[torch.Tensor], from_each: Sequence[torch.Tensor]) -> None:
        others = [other for other in range(self._ranks) if other != self._rank]
        begun: list[tuple[int, dist.Work | None]] = []
        for other in others:
            with _named(other):
                begun.append((other, dist.isend(to_each[other], other)))
                begun.append((other, dist.irecv(from_each[other], other)))
        for other, work in begun:
            with _named(other):
                if work is not None:
                    work.wait()

    def close(self) -> None:
        """Nothing to close: the process group ends by itself."""


@contextmanager
def _named(other: int) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise unreachable(other, error) from error

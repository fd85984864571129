"""Tensors between CPU ranks of one machine, through Unix sockets.

A step of a training has some thirty exchanges, two for each synchronised normalisation. gloo hands each of them from
thread to thread, and these threads wait for a core while the ranks compute: half a millisecond to a millisecond, where
a socket takes 0.02.
"""

import logging
import socket
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path

import torch
import torch.distributed as dist

from cytonet_pipeline.learning.parallel.exchange import Exchange, unreachable

# Fits the buffer of a socket everywhere, so that both sides of a pair may send before they receive.
_SMALL_BYTES = 4096
# Paths of Unix sockets have at most 108 bytes, less than some $TMPDIR.
_FOLDER = "/tmp"
_ADDRESS_BYTES = 128
_log = logging.getLogger(__name__)


class Sockets(Exchange):
    """One rank's connections to all others.

    Parameters
    ----------
    rank : int
    to : dict of int to Connection
        By the other's rank.
    """

    def __init__(self, rank: int, to: dict[int, Connection]) -> None:
        super().__init__(rank, len(to) + 1)
        self._to = to

    @classmethod
    def between_ranks(cls) -> "Sockets | None":
        """Connect the ranks of the process group; None where the system lets not all of them have a Unix socket."""
        if not hasattr(socket, "AF_UNIX"):
            return None
        own, ranks = dist.get_rank(), dist.get_world_size()
        with ExitStack() as stack:
            listener = _listening(stack, ranks)
            # Asked of all before anybody connects: one that went another way would be waited for.
            addresses = _told_to_all("" if listener is None else str(listener.address))
            if listener is None or "" in addresses:
                return None
            to = {}
            for other in range(own):
                to[other] = Client(addresses[other], "AF_UNIX")
                to[other].send_bytes(str(own).encode())
            for _ in range(own + 1, ranks):
                connection = listener.accept()
                to[int(connection.recv_bytes())] = connection
        return cls(own, to)

    def _with_others(self, to_each: Sequence[torch.Tensor], from_each: Sequence[torch.Tensor]) -> None:
        # In turn every rank forms a pair with every other: nobody waits for one who waits for a third.
        for other in ((turn - self._rank) % self._ranks for turn in range(self._ranks)):
            if other != self._rank:
                self._with(other, _bytes_of(to_each[other]), _bytes_of(from_each[other]))

    def _with(self, other: int, sent: memoryview, received: memoryview) -> None:
        connection = self._to[other]
        first = self._rank < other or max(sent.nbytes, received.nbytes) <= _SMALL_BYTES
        try:
            if first:
                connection.send_bytes(sent)
            told = connection.recv_bytes_into(received)
            if not first:
                connection.send_bytes(sent)
        except (EOFError, OSError) as error:
            raise unreachable(other, error) from error
        if told != received.nbytes:
            raise RuntimeError(f"rank {other} sent {told} bytes instead of {received.nbytes}")

    def close(self) -> None:
        """Close the connections; others that wait here get their error."""
        for connection in self._to.values():
            connection.close()


def _listening(stack: ExitStack, ranks: int) -> Listener | None:
    """A socket that others can connect to while the stack is open; None where there can be none."""
    try:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="cytonet-", dir=_FOLDER))
        return stack.enter_context(Listener(str(Path(folder) / "rank"), "AF_UNIX", backlog=ranks))
    except OSError as error:
        _log.warning("ranks of this machine exchange through gloo, which is slower: no Unix socket (%s)", error)
        return None


def _told_to_all(address: str) -> list[str]:
    own = torch.tensor(list(address.encode().ljust(_ADDRESS_BYTES, b"\0")), dtype=torch.uint8)
    told = [torch.empty_like(own) for _ in range(dist.get_world_size())]
    dist.all_gather(told, own)
    return [bytes(each.tolist()).rstrip(b"\0").decode() for each in told]


def _bytes_of(tensor: torch.Tensor) -> memoryview:
    return tensor.view(-1).view(torch.uint8).numpy().data

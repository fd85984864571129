"""What a back-end, a place where training and other long steps can run, has to be able to do.

A back-end is one module or package; `launchers.BACKENDS` lists them all.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal, NamedTuple, Protocol

from cytonet_pipeline.cluster.attempt import Launcher
from cytonet_pipeline.settings import Settings

Notify = Callable[[str], None]


class SiteCheck(NamedTuple):
    """One result of a cluster's check-up: `ok`, `note` (worth knowing) or `bad` (to be fixed), and a sentence."""

    level: Literal["ok", "note", "bad"]
    text: str


class Backend(Protocol):
    """A place where training and other long steps can run.

    Every method may raise `ConfigurationError`: the description of the site is missing or faulty.
    """

    @property
    def title(self) -> str:
        """Name for people."""
        ...

    @property
    def pools(self) -> Mapping[str, int]:
        """Pools of Dagster in which steps only wait for this back-end, with the limit that each gets."""
        ...

    def training_launcher(self, settings: Settings, encoder: str, notify: Notify) -> Launcher:
        """Make the launcher of an encoder's training runs."""
        ...

    def step_launcher(self, settings: Settings, step: str, arguments: Sequence[str], notify: Notify) -> Launcher | None:
        """Make the launcher of another long step; None if the process that asks does it itself."""
        ...

    def waiting_pool(self, step: str) -> str | None:
        """Return the pool in which a step waits; None if it runs on this machine."""
        ...

    def training_gpus(self) -> int | None:
        """Return the number of GPUs of a training run; None if it follows from this machine or the experiment."""
        ...

    def check_up(self, settings: Settings) -> Iterator[SiteCheck] | None:
        """Examine the site from outside and inside; None if there is no site beside this machine."""
        ...

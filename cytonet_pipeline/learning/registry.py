"""Look-ups by name where there are several of a kind: backbones, distances, transfer functions, GPUs."""

from collections.abc import Mapping
from typing import TypeVar

from cytonet_pipeline.errors import ConfigurationError

Entry = TypeVar("Entry")


def entry_named(name: str, registry: Mapping[str, Entry], kind: str) -> Entry:
    """Return the entry of a registry.

    Parameters
    ----------
    kind : str
        What the registry holds, for the message: `backbone`.

    Raises
    ------
    ConfigurationError
        The registry has no such name; the message lists those that it has.
    """
    if name not in registry:
        raise ConfigurationError(f"no {kind} {name!r}.", to_fix=f"use one of {', '.join(registry)}")
    return registry[name]

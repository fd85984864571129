"""Keys whose values are names in a registry of another room: backbones, transfer functions, distances."""

from collections.abc import Collection
from typing import Annotated

from pydantic import AfterValidator, ValidationInfo

_accepted_names: dict[str, Collection[str]] = {}


def accept_names(key: str, names: Collection[str]) -> None:
    """Let a key of an experiments entry take the names of a registry, as it stands when a file is read.

    Backbones and losses need torch, which is not imported here: `learning` hands in their registries when it is
    imported, as every program does that acts on an experiments file. Until then any name passes, and is refused where
    the thing itself is made.
    """
    _accepted_names[key] = names


def _require_accepted(name: str, info: ValidationInfo) -> str:
    accepted = _accepted_names.get(str(info.field_name))
    if accepted is not None and name not in accepted:
        raise ValueError(f"no such {info.field_name}: {name!r}; there are {', '.join(accepted)}")
    return name


RegisteredName = Annotated[str, AfterValidator(_require_accepted)]

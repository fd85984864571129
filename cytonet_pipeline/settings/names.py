"""Keys whose values are names: of brains, or in a registry of another room (backbones, transfers, distances)."""

from collections.abc import Collection
from typing import Annotated, Any

from pydantic import AfterValidator, ValidationInfo

from cytonet_pipeline.names import bare_brain

_accepted_names: dict[str, tuple[Collection[str], tuple[str, ...]]] = {}


def accept_names(key: str, names: Collection[str], libraries: tuple[str, ...] = ()) -> None:
    """Let a key of an experiments entry take the names of a registry, as it stands when a file is read.

    `libraries` are prefixes (`timm/`) of names that only another package knows.

    Backbones and losses need torch, which is not imported here: `learning` hands in their registries when it is
    imported, as every program does that acts on an experiments file. Until then any name passes, and is refused where
    the thing itself is made.
    """
    _accepted_names[key] = names, libraries


def _require_accepted(name: str, info: ValidationInfo) -> str:
    names, libraries = _accepted_names.get(str(info.field_name), (None, ()))
    if names is not None and name not in names and not name.startswith(libraries):
        known = [*names, *(f"{library}NAME" for library in libraries)]
        raise ValueError(f"no such {info.field_name}: {name!r}; there are {', '.join(known)}")
    return name


def require_one_spelling(value: Any) -> Any:
    """Refuse a mapping by brain that names one brain twice, with and without `sub-`: one of the values would win."""
    if isinstance(value, dict):
        names = [bare_brain(name) for name in value if isinstance(name, str)]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ValueError(f"{', '.join(repeated)} is given twice, with and without sub-")
    return value


# A brain, given with or without `sub-`.
BrainName = Annotated[str, AfterValidator(bare_brain)]
RegisteredName = Annotated[str, AfterValidator(_require_accepted)]

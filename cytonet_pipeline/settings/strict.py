"""Files of settings, read strictly: a key that nobody reads is a misspelt key."""

from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from cytonet_pipeline.errors import ConfigurationError

Model = TypeVar("Model", bound=BaseModel)


class Strict(BaseModel):
    """A block of settings that refuses keys it does not know, and does not change once it is read."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def read_strictly(
    path: Path, model: type[Model], *, if_unreadable: str, if_faulty: str, loader: type = yaml.SafeLoader
) -> Model:
    """Read a YAML file into a model; an empty file is a model of defaults.

    Parameters
    ----------
    if_unreadable, if_faulty : str
        Remedies.
    loader : type
        How YAML is read.

    Raises
    ------
    ConfigurationError
        It is missing, not YAML, or has a misspelt key or an impossible value; the message names each.
    """
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), loader)
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read ({error.strerror}).", to_fix=if_unreadable) from error
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{path}: not valid YAML ({error}).") from error
    try:
        return model.model_validate({} if content is None else content)
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, e['loc'])) or 'file'}: {_message_of(e)}" for e in error.errors()]
        raise ConfigurationError(
            f"{path}: {len(faults)} {'fault' if len(faults) == 1 else 'faults'}: {'; '.join(faults)}.",
            to_fix=if_faulty,
        ) from error


def _message_of(error: Any) -> str:
    return "misspelt, no such key" if error["type"] == "extra_forbidden" else str(error["msg"])

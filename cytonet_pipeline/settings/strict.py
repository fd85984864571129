"""Files of settings, read strictly: a key that nobody reads is a misspelt key, and a key given twice is a mistake."""

from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator

from cytonet_pipeline.errors import ConfigurationError
from cytonet_pipeline.names import describe_known

Model = TypeVar("Model", bound=BaseModel)
# Kinds of faults that YAML causes by reading text as something else: 01 as 1, `no` as false, 2024-01-01 as a date.
_NOT_TEXT = frozenset({"string_type", "string_unicode"})
# Of entries that share a fault, these many are named beside the first.
_MOST_NAMED = 2


class Strict(BaseModel):
    """A block of settings that refuses keys it does not know, and does not change once it is read."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _true_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse true and false where a number is due: pydantic takes them for 1 and 0."""
        annotation = cls.model_fields[str(info.field_name)].annotation
        if isinstance(value, bool) and bool not in (annotation, *get_args(annotation)):
            raise ValueError(f"{str(value).lower()} is not a number or a text; YAML reads yes, no, on, off as booleans")
        return value


def read_strictly(
    path: Path,
    model: type[Model],
    *,
    if_unreadable: str,
    if_faulty: str,
    loader: type[yaml.SafeLoader] = yaml.SafeLoader,
) -> Model:
    """Read a YAML file into a model; an empty file is a model of defaults.

    Parameters
    ----------
    if_unreadable, if_faulty : str
        Remedies.
    loader : type
        How YAML reads plain values.

    Raises
    ------
    ConfigurationError
        It is missing, not UTF-8, not YAML, gives a key twice, or has a misspelt key or an impossible value; the
        message names each.
    """
    try:
        content = _load(path.read_text(encoding="utf-8-sig"), loader)
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read ({error.strerror}).", to_fix=if_unreadable) from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(
            f"{path}: not UTF-8 text (byte {error.start}: {error.reason}).", to_fix="save it as UTF-8"
        ) from error
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{path}: not valid YAML ({error}).", to_fix=if_faulty) from error
    except RecursionError:
        raise ConfigurationError(f"{path}: nested too deeply for settings.", to_fix=if_faulty) from None
    try:
        return model.model_validate({} if content is None else content)
    except ValidationError as error:
        faults = _faults_of(error, model)
        raise ConfigurationError(
            f"{path}: {len(faults)} {'fault' if len(faults) == 1 else 'faults'}: {'; '.join(faults)}.",
            to_fix=if_faulty,
        ) from error


def _load(text: str, loader: type[yaml.SafeLoader]) -> Any:
    """Load YAML; of a key that is given twice in one mapping, YAML would keep the last value silently."""

    class Loader(loader):  # type: ignore[misc, valid-type]
        def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
            # As the file has it: merge keys (`<<`) are expanded later, and what they bring may be overridden.
            node = super().compose_mapping_node(anchor)
            first: dict[tuple[str, str], int] = {}
            for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
                name, line = (key.tag, key.value), key.start_mark.line + 1
                if name in first:
                    raise yaml.YAMLError(f"line {line}: key {key.value!r} is already given in line {first[name]}")
                first[name] = line
            return node

    return yaml.load(text, Loader)


def _faults_of(error: ValidationError, model: type[BaseModel]) -> list[str]:
    """Return a line per fault; one that several entries of a block share has one line, as one mistake made them all."""
    places: dict[tuple[Any, ...], list[tuple[str | int, ...]]] = {}
    for each in error.errors():
        place = each["loc"]
        shared = (*place[:1], len(place), *place[2:], _message_of(each, model))
        places.setdefault(shared, []).append(place)
    faults = []
    for shared, (first, *others) in places.items():
        also = ", ".join(str(place[1]) for place in others[:_MOST_NAMED] if len(place) > 1)
        more = f" and {len(others) - _MOST_NAMED} more" if len(others) > _MOST_NAMED else ""
        fault = f"{'.'.join(map(str, first)) or 'file'}: {shared[-1]}"
        faults.append(f"{fault} (also {also}{more})" if also else fault)
    return faults


def _message_of(error: Any, model: type[BaseModel]) -> str:
    if error["type"] == "extra_forbidden":
        *place, key = error["loc"]
        known = _keys_at(model, tuple(place))
        return f"misspelt, no such key; {describe_known(str(key), known)}" if known else "misspelt, no such key"
    message = str(error["msg"]).removeprefix("Value error, ")
    value = error.get("input")
    if error["type"] in _NOT_TEXT and value is not None and not isinstance(value, list | dict):
        kind = type(value).__name__
        return f"{message}; YAML reads {value} as {_KINDS.get(kind, kind)}: write it in quotes"
    return message


def _keys_at(model: type[BaseModel], place: tuple[str | int, ...]) -> list[str]:
    """Return the keys of the block at a place in a file; none if that is not clear."""
    block: Any = model
    for part in place:
        if isinstance(block, type) and issubclass(block, BaseModel):
            field = block.model_fields.get(str(part))
            block = field.annotation if field is not None else None
        else:
            # A mapping by name: what stands at its values.
            block = (get_args(block) or (None,))[-1]
    return list(block.model_fields) if isinstance(block, type) and issubclass(block, BaseModel) else []


_KINDS = {"int": "a number", "float": "a number", "bool": "true or false", "date": "a date", "datetime": "a date"}

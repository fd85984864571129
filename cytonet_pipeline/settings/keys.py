"""What each key of an experiments file affects, as its own field states it, and what of it counts as a version.

A version is a digest of all that decides an encoder's weights. It must not change when this program is upgraded: what
is trained would be trained again. So a field also says how its key is digested, where that is not simply by its value.
"""

from typing import Any, Literal

from pydantic import BaseModel
from pydantic.fields import FieldInfo

Effect = Literal["result", "computation", "nothing"]
_EFFECTS = ("result", "computation", "nothing")


def affects(
    effect: Effect,
    *,
    added_in: str | None = None,
    read_if: tuple[str, Any] | None = None,
    digested: Literal["value", "default", "apart"] = "value",
) -> dict[str, Any]:
    """Return the `json_schema_extra` of a key.

    Parameters
    ----------
    effect : {"result", "computation", "nothing"}
        Whether another value changes the result (the weights; for `evaluation:` the figures), only how it is computed
        (what was begun is continued with the new value), or neither.
    added_in : str, optional
        Release in which a key came that changes the result, if later than 0.1.0: at its default it is not digested, so
        that versions stay what they were before it existed.
    read_if : (key, value), optional
        The key is read only if another one of its block has this value; otherwise it is not digested.
    digested : {"value", "default", "apart"}
        For a key that changes the result `apart` says that what it resolves to is digested elsewhere. Other keys are
        not digested, but `default` says that their default is, because it was in 0.1.0.
    """
    return {"affects": effect, "added_in": added_in, "read_if": read_if, "digested": digested}


RESULT = affects("result")
COMPUTATION = affects("computation")
NOTHING = affects("nothing")


def effect_of(block: type[BaseModel], key: str) -> Effect:
    """Return what a key affects.

    Raises
    ------
    TypeError
        Its field does not say so.
    """
    effect: Effect = _statement(block, key)["affects"]
    return effect


def keys_affecting(block: type[BaseModel], effect: Effect) -> frozenset[str]:
    """Return the names of a block's keys that have this effect."""
    return frozenset(key for key in block.model_fields if effect_of(block, key) == effect)


def content_for_version(block: BaseModel) -> dict[str, Any]:
    """Return what of a block's values goes into a version, as JSON values."""
    values, content = block.model_dump(mode="json"), {}
    for key, field in type(block).model_fields.items():
        statement = _statement(type(block), key)
        nested = getattr(block, key)
        if statement["affects"] != "result":
            if statement["digested"] == "default":
                content[key] = field.default
        elif key in values and _is_digested(statement, values[key], field, values):
            content[key] = content_for_version(nested) if isinstance(nested, BaseModel) else values[key]
    return content


def without_later_defaults(block: BaseModel, values: dict[str, Any]) -> dict[str, Any]:
    """Return a block's values without those of keys that came later and are at their default.

    What was recorded before a key existed then equals what is recorded now.
    """
    fields = type(block).model_fields
    later = {key for key in fields if _statement(type(block), key)["added_in"] is not None}
    return {
        key: value for key, value in values.items() if key not in later or getattr(block, key) != fields[key].default
    }


def _is_digested(statement: dict[str, Any], value: Any, field: FieldInfo, values: dict[str, Any]) -> bool:
    if statement["digested"] == "apart":
        return False
    if statement["read_if"] is not None:
        key, needed = statement["read_if"]
        if values[key] != needed:
            return False
    return statement["added_in"] is None or value != field.default


def _statement(block: type[BaseModel], key: str) -> dict[str, Any]:
    extra = block.model_fields[key].json_schema_extra
    if not isinstance(extra, dict) or extra.get("affects") not in _EFFECTS:
        raise TypeError(
            f"{block.__name__}.{key}: its field does not say what it affects: json_schema_extra=affects(…), one of "
            f"{', '.join(_EFFECTS)}"
        )
    return extra

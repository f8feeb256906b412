"""Checks a document by its pydantic model; what is wrong is one VlawError with file, key and remedy."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

from annotated_types import DocInfo

from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic_core import ErrorDetails

M = TypeVar("M", bound="BaseModel")
UNKNOWN = ("extra_forbidden", "unexpected_keyword_argument")
FORMS = {
    "int_type": "Give a whole number.",
    "float_type": "Give a finite number.",
    "finite_number": "Give a finite number.",
    "bool_type": "Give true or false.",
    "string_type": "Give a text in quotes.",
    "tuple_type": "Give a list.",
    "dict_type": "Give a table.",
    "dataclass_type": "Give a table.",
    "model_type": "Give a table.",
}
"""Type of pydantic's error -> remedy."""


def checked(
    model: type[M],
    document: Mapping[str, Any],
    *,
    path: Path,
    also: Iterable[str] = (),
    context: Any = None,
) -> M:
    """The document as `model`. `path` is the file that errors name, `also` more keys that such a file may have.

    It is given to pydantic as JSON, the only form in which pydantic's strict mode takes a list for a tuple and a table
    for a dataclass. Raises VlawError.
    """
    from pydantic import ValidationError

    try:
        return model.model_validate_json(json.dumps(document, default=_date), context=context)
    except ValidationError as error:
        # Defaults that are made of other keys are not made where one of these is wrong: no problem of its own.
        found = [one for one in error.errors(include_url=False) if one["type"] != "default_factory_not_called"]
        first, *others = found
        what, remedy = _said(first, model, also)
        keys = [key for one in others if (key := _key(one["loc"], document)) != _key(first["loc"], document)]
        more = f"; also wrong: {', '.join(map(repr, dict.fromkeys(keys)))}" if keys else ""
        key = first.get("ctx", {}).get("key") or _key(first["loc"], document)
        raise problem(path, key, what + more, remedy) from None


def problem(path: Path, key: str, what: str, remedy: str) -> VlawError:
    """The error of one key of a file."""
    return VlawError(f"key '{key}' {what}", where=f"{path}, key '{key}'", remedy=remedy)


def not_a_key(names: Iterable[str], given: str) -> tuple[str, str]:
    """(what is wrong, remedy) where `given` is none of the keys `names`."""
    known = sorted(names)
    if not known:
        return "is not a key", "Remove it: this table has none."
    near = "".join(f"Did you mean {name!r}? " for name in get_close_matches(given, known, 1))
    return "is not a key", f"{near}Remove it, or use one of {', '.join(known)}."


def _said(error: ErrorDetails, model: type[BaseModel], also: Iterable[str]) -> tuple[str, str]:
    """(what is wrong, remedy) of one of pydantic's errors."""
    kind, loc, value, ctx = error["type"], error["loc"], error["input"], error.get("ctx", {})
    if kind == "wrong":
        return ctx["what"], ctx["remedy"]
    if kind in UNKNOWN:
        return not_a_key([*_fields(_at(model, loc[:-1])), *(also if len(loc) == 1 else ())], str(loc[-1]))
    if loc[-1] == "[key]":
        return not_a_key(get_args(get_args(_at(model, loc[:-2]))[0]), str(value))
    if kind == "missing":
        return "is missing", f"Add it; {loc[-1]} has no default."
    held = f"{'holds' if isinstance(loc[-1], int) else 'is'} {_shown(value)}"
    if kind in FORMS:
        return held, FORMS[kind]
    if kind == "literal_error":
        return held, f"Use {ctx['expected']}."
    parts = get_args(_at(model, loc))
    said = next((part.documentation for part in parts if isinstance(part, DocInfo)), "")
    return held, said or error["msg"].replace("Input should be", "Use a value that is") + "."


def _key(loc: tuple[int | str, ...], document: Any) -> str:
    """A place as people write it: 'policy.stops', 'arms.seeds of vlaw'. What has a `recipe` is called by it."""
    names, entry = [], ""
    for part in loc:
        if part == "[key]":
            break
        document = document[part] if isinstance(part, int) else document.get(part)
        if isinstance(part, str):
            names.append(part)
        elif isinstance(document, dict):
            entry = f" of {document.get('recipe', f'number {part + 1}')}"
        if not isinstance(document, dict | list | tuple):
            document = {}
    return ".".join(names) + entry


def _at(model: type[BaseModel], loc: tuple[int | str, ...]) -> Any:
    """The type at a place of a model, as it is annotated."""
    found: Any = model
    for part in loc:
        kind: Any = get_args(found)[0] if get_origin(found) is Annotated else found
        found = get_args(kind)[-1 if get_origin(kind) is dict else 0] if get_args(kind) else _fields(kind)[str(part)]
    return found


@cache
def _fields(kind: Any) -> dict[str, Any]:
    """Key -> annotation of a model or a dataclass."""
    hints = get_type_hints(kind, include_extras=True)
    if dataclasses.is_dataclass(kind):
        return {field.name: hints[field.name] for field in dataclasses.fields(kind)}
    return {field.alias or name: hints[name] for name, field in kind.model_fields.items()}


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value)


def _date(value: Any) -> dict[str, str]:
    """What TOML has and JSON has not, as something that no key takes."""
    return {"date or time": str(value)}

"""Read one YAML file into one frozen model; every fault comes with file, line and key."""

from __future__ import annotations

import difflib
import os
import re
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from rocbench import textfile
from rocbench.errors import ConfigError, InputError
from rocbench.settings import yamltext
from rocbench.settings.strict import models_in
from rocbench.variables import is_secret, shown

LARGEST = 512 << 10
"""Maximum bytes of one file: the largest shipped file has 40,000, and people write them."""
MOST_FAULTS = 20
"""Maximum number of faults of one file in a message."""
Model = TypeVar("Model", bound=BaseModel)
Location = tuple[str | int, ...]


def load(path: Path, model: type[Model]) -> Model:
    """Read a file as a model.

    Raises:
        ConfigError: the file is missing, is not YAML, or does not fit the model; all faults in one message.
    """
    read: Model = _model(_text(path), path, model)
    return read


@lru_cache(maxsize=256)
def _model(text: str, path: Path, model: type[Model]) -> Model:
    """Read a text as a model, once: a study reads the same few profiles for each of its parts."""
    node, data = yamltext.parse(text, str(path))
    if not isinstance(data, dict):
        raise ConfigError("must be a mapping of keys", where=str(path))
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise ConfigError(_explain(error, node, model, path)) from None


def _text(path: Path) -> str:
    try:
        return textfile.read_text(path, most=LARGEST, fix="" if os.path.lexists(path) else _near_file(path))
    except InputError as error:
        raise ConfigError(error.what, where=error.where, fix=error.fix) from None


def place(path: Path, location: Location) -> str:
    """Return `FILE:LINE` of a key or an item."""
    return f"{path}:{_line(yamltext.parse(_text(path), str(path))[0], location)}"


def first_fault(error: ValidationError) -> str:
    """Return the first fault as `key: message`."""
    fault = error.errors(include_url=False)[0]
    key = ".".join(map(str, fault["loc"]))
    return f"{key}: {_message([fault])}" if key else _message([fault])


def _near_file(path: Path) -> str:
    try:
        near = difflib.get_close_matches(path.name, [entry.name for entry in path.parent.iterdir()], n=1)
    except (FileNotFoundError, NotADirectoryError):
        return f"the folder {path.parent} does not exist"
    except (OSError, ValueError):
        near = []
    return f"did you mean {path.parent / near[0]}?" if near else "give the path of a YAML file"


def _line(node: yaml.Node | None, location: Location) -> int:
    """Return the line (from 1) of the deepest node towards a location; for a key, the key's own line."""
    line = yamltext.line(node)
    for part in location:
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if key.value == str(part):
                    node, line = value, yamltext.line(key)
                    break
            else:
                continue  # a tag of a union, not a key of the file
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = yamltext.line(node)
    return line


_TYPE_WORDS = {
    "bool": "true or false",
    "int": "a whole number",
    "float": "a number",
    "string": "text",
    "dict": "a mapping",
    "model": "a mapping",
    "tuple": "a list",
}
"""Types by the first part of pydantic's fault types (`int_type`, `int_parsing`, `int_from_float`)."""

_TOO_LARGE = "unable to parse input string as an integer, exceeded maximum size"
_KEY_FAULTS = {"extra_forbidden", "missing"}


def _expected_type(fault: Any) -> str | None:
    """Return the type that a value should have; None for a fault of another kind."""
    name, _, kind = fault["type"].partition("_")
    return _TYPE_WORDS.get(name) if kind.endswith(("type", "parsing", "from_float")) else None


def _explain(error: ValidationError, node: yaml.Node | None, model: type[BaseModel], path: Path) -> str:
    """Return one line per key: pydantic reports one fault for each type that a key may have."""
    by_key: dict[tuple[str, ...], list[Any]] = {}
    for fault in error.errors(include_url=False)[: 10 * MOST_FAULTS]:
        by_key.setdefault(_keys(node, fault["loc"]), []).append(fault)
    lines: list[str] = []
    for keys, faults in by_key.items():
        texts = [_key_message(f["loc"], f["type"], model) for f in faults if f["type"] in _KEY_FAULTS]
        rest = [fault for fault in faults if fault["type"] not in _KEY_FAULTS]
        # A fault below a key shows that the key itself has the right type.
        deeper = any(len(other) > len(keys) and other[: len(keys)] == keys for other in by_key)
        if deeper or texts:
            rest = [fault for fault in rest if not _expected_type(fault)]
        if rest:
            message = _message(rest)
            texts.append(f"{'.'.join(keys)}: {message}" if keys else message)
        lines += [f"{path}:{_line_of(node, faults[0], text)}: {text}" for text in dict.fromkeys(texts)]
    if len(lines) > MOST_FAULTS:
        lines = [*lines[:MOST_FAULTS], f"{path}: there are more than {MOST_FAULTS} faults"]
    return "\n".join(lines)


def _key_message(location: Location, kind: str, model: type[BaseModel]) -> str:
    """Return the message for a missing or unknown key."""
    name = str(location[-1])
    if kind == "missing":
        return f"key {yamltext.shown(name)} is missing"
    near = difflib.get_close_matches(name, _fields(model), n=1, cutoff=0.6)
    if near == [name]:
        return f"unknown key {name!r} here; it belongs to another section (docs/reference)"
    return f"unknown key {yamltext.shown(name)}" + (f"; did you mean {near[0]!r}?" if near else "")


def _message(faults: list[Any]) -> str:
    """Return what the value of a key must be, and the value."""
    others = [fault for fault in faults if not _expected_type(fault)]
    if others:
        texts = [fault["msg"].removeprefix("Value error, ") for fault in others]
        message = " or ".join(dict.fromkeys(text[:1].lower() + text[1:] for text in texts))
        message = message.replace("input should be", "must be").replace(_TOO_LARGE, "is too large")
    else:
        message = "must be " + " or ".join(dict.fromkeys(filter(None, map(_expected_type, faults))))
    value = faults[0]["input"]
    fits = isinstance(value, str | int | float | bool) and not _hidden(faults[0]["loc"])
    return message + (f" (got {yamltext.shown(value)})" if fits else "")


def _hidden(location: Location) -> bool:
    """Return True if a value is not shown: its name is that of a secret, or of an unlisted variable."""
    return any(is_secret(str(part)) for part in location) or (
        "env" in location and not shown(str(location[-1]))
    )


def _line_of(node: yaml.Node | None, fault: Any, text: str) -> int:
    """Return the line of a fault; for a fault of a mapping, that of the first key that its message names."""
    location: Location = fault["loc"]
    for named in re.findall(r"`([\w.]+)", text) if fault["type"] == "value_error" else ():
        inner = (*location, *named.split("."))
        if len(_keys(node, inner)) == len(_keys(node, location)) + len(named.split(".")):
            return _line(node, inner)
    return _line(node, location)


def _keys(node: yaml.Node | None, location: Location) -> tuple[str, ...]:
    """Return a location as written in the file, without the union tags that pydantic adds."""
    parts: list[str] = []
    for part in location:
        if isinstance(node, yaml.MappingNode):
            match = next((value for key, value in node.value if key.value == str(part)), None)
            if match is None:
                continue
            parts.append(str(part))
            node = match
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            parts.append(str(part))
            node = node.value[part]
    return tuple(parts)


def _fields(model: type[BaseModel]) -> list[str]:
    """Return every key of a model and its parts, for the hint at the nearest key."""
    return [name for part in reachable(model) for name in part.model_fields]


def reachable(root: type[BaseModel]) -> list[type[BaseModel]]:
    """Return a model and the models of its keys, in breadth-first order."""
    models = [root]
    for model in models:
        for field in model.model_fields.values():
            for part in models_in(field.annotation):
                if part not in models:
                    models.append(part)
    return models

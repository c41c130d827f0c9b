"""Read one YAML file into one frozen model; every fault with file, line and key."""

from __future__ import annotations

import difflib
import os
import re
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from rocbench import textfile
from rocbench.errors import ConfigError, InputError
from rocbench.settings import yamltext
from rocbench.variables import is_secret, shown

LARGEST = 512 << 10
"""Bytes of one file: the largest that is shipped has 40,000, and a person writes them."""
MOST_TOLD = 20
"""Faults of one file in a message."""
Model = TypeVar("Model", bound=BaseModel)
Location = tuple[str | int, ...]


def load(path: Path, model: type[Model]) -> Model:
    """Read `path` as `model`.

    Raises:
        ConfigError: the file is missing, is no YAML, or does not fit; all faults in one message.
    """
    node, data = read_yaml(path)
    if not isinstance(data, dict):
        raise ConfigError("must be a mapping of keys", where=str(path))
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise ConfigError(_explain(error, node, model, path)) from None


def read_yaml(path: Path) -> tuple[yaml.Node | None, Any]:
    """The file's node tree (for line numbers) and its plain data.

    Raises:
        ConfigError: the file cannot be read, is no YAML, or is out of bounds (`yamltext`).
    """
    try:
        text = textfile.read_text(path, most=LARGEST, fix="" if os.path.lexists(path) else _near_file(path))
    except InputError as error:
        raise ConfigError(error.what, where=error.where, fix=error.fix) from None
    return yamltext.parse(text, str(path))


def place(path: Path, location: Location) -> str:
    """`FILE:LINE` of a key or an item."""
    return f"{path}:{_line(read_yaml(path)[0], location)}"


def _near_file(path: Path) -> str:
    try:
        near = difflib.get_close_matches(path.name, [entry.name for entry in path.parent.iterdir()], n=1)
    except (FileNotFoundError, NotADirectoryError):
        return f"the folder {path.parent} does not exist"
    except (OSError, ValueError):
        near = []
    return f"did you mean {path.parent / near[0]}?" if near else "give the path of a YAML file"


def _line(node: yaml.Node | None, location: Location) -> int:
    """Line (from 1) of the deepest node on the way to `location`; a key's own line where it is a key."""
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


_NOUNS = {
    "bool": "true or false",
    "int": "a whole number",
    "float": "a number",
    "string": "text",
    "dict": "keys with values",
    "model": "keys with values",
    "tuple": "a list",
}
"""Types as pydantic's fault types begin (`int_type`, `int_parsing`, `int_from_float`), in words."""

_BEYOND = "unable to parse input string as an integer, exceeded maximum size"
_OF_KEYS = {"extra_forbidden", "missing"}


def _noun(fault: Any) -> str | None:
    """The type that a value should have had; None for a fault of another kind."""
    name, _, why = fault["type"].partition("_")
    return _NOUNS.get(name) if why.endswith(("type", "parsing", "from_float")) else None


def _explain(error: ValidationError, node: yaml.Node | None, model: type[BaseModel], path: Path) -> str:
    """One line a key: where a key may be of several types, each of them has a fault."""
    faults: dict[tuple[str, ...], list[Any]] = {}
    for fault in error.errors(include_url=False)[: 10 * MOST_TOLD]:
        faults.setdefault(_keys(node, fault["loc"]), []).append(fault)
    lines: list[str] = []
    for keys, found in faults.items():
        texts = [_unlisted(f["loc"], f["type"], model) for f in found if f["type"] in _OF_KEYS]
        rest = [fault for fault in found if fault["type"] not in _OF_KEYS]
        # What lies below a key tells that its type was right.
        deeper = any(len(other) > len(keys) and other[: len(keys)] == keys for other in faults)
        if deeper or texts:
            rest = [fault for fault in rest if not _noun(fault)]
        if rest:
            said = _said(rest)
            texts.append(f"{'.'.join(keys)}: {said}" if keys else said)
        lines += [f"{path}:{_line_of(node, found[0], text)}: {text}" for text in dict.fromkeys(texts)]
    if len(lines) > MOST_TOLD:
        lines = [*lines[:MOST_TOLD], f"{path}: more faults follow these {MOST_TOLD}"]
    return "\n".join(lines)


def _unlisted(location: Location, kind: str, model: type[BaseModel]) -> str:
    """A key too many or too few."""
    name = str(location[-1])
    if kind == "missing":
        return f"key {yamltext.shown(name)} is missing"
    near = difflib.get_close_matches(name, _fields(model), n=1, cutoff=0.6)
    if near == [name]:
        return f"unknown key {name!r}; it is a key of another place (docs/reference)"
    return f"unknown key {yamltext.shown(name)}" + (f"; did you mean {near[0]!r}?" if near else "")


def _said(faults: list[Any]) -> str:
    """What one key must be, and what it is."""
    others = [fault for fault in faults if not _noun(fault)]
    if others:
        told = [fault["msg"].removeprefix("Value error, ") for fault in others]
        message = " or ".join(dict.fromkeys(text[:1].lower() + text[1:] for text in told))
        message = message.replace("input should be", "must be").replace(
            _BEYOND, "is larger than any count may be"
        )
    else:
        message = "must be " + " or ".join(dict.fromkeys(filter(None, map(_noun, faults))))
    value = faults[0]["input"]
    fits = isinstance(value, str | int | float | bool) and not _hidden(faults[0]["loc"])
    return message + (f" (got {yamltext.shown(value)})" if fits else "")


def _hidden(location: Location) -> bool:
    """Whether what stands there is not shown: it has a secret's name, or is an unlisted variable."""
    return any(is_secret(str(part)) for part in location) or (
        "env" in location and not shown(str(location[-1]))
    )


def _line_of(node: yaml.Node | None, fault: Any, text: str) -> int:
    """Line of a fault; of a whole mapping that of the first key in the file that its message names."""
    location: Location = fault["loc"]
    for named in re.findall(r"`([\w.]+)", text) if fault["type"] == "value_error" else ():
        inner = (*location, *named.split("."))
        if len(_keys(node, inner)) == len(_keys(node, location)) + len(named.split(".")):
            return _line(node, inner)
    return _line(node, location)


def _keys(node: yaml.Node | None, location: Location) -> tuple[str, ...]:
    """The location as written in the file: union tags that pydantic adds are left out."""
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


def _fields(model: type[BaseModel], seen: set[type[BaseModel]] | None = None) -> list[str]:
    """Every key name a model and its parts know, for the nearest-key hint."""
    seen = seen if seen is not None else set()
    if model in seen:
        return []
    seen.add(model)
    names: list[str] = []
    for name, info in model.model_fields.items():
        names.append(name)
        for part in _models_in(info.annotation):
            names.extend(_fields(part, seen))
    return names


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    found: list[type[BaseModel]] = []
    for argument in getattr(annotation, "__args__", ()):
        found.extend(_models_in(argument))
    return found

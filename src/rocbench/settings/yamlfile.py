"""Read one YAML file into one frozen model; every fault with file, line and key."""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from rocbench.errors import ConfigError

Model = TypeVar("Model", bound=BaseModel)
Location = tuple[str | int, ...]


class _Loader(yaml.SafeLoader):
    """SafeLoader in which a bare on/off/yes/no stays a word: `aiter: on` means what it says."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool",
    re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"),
    list("tTfF"),
)


def load(path: Path, model: type[Model]) -> Model:
    """Read `path` as `model`.

    Raises:
        ConfigError: the file is missing, is no YAML, or does not fit; all faults in one message.
    """
    node, data = read(path)
    if not isinstance(data, dict):
        raise ConfigError("must be a mapping of keys", where=str(path))
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise ConfigError(_explain(error, node, model, path)) from None


def read(path: Path) -> tuple[yaml.Node | None, Any]:
    """The file's node tree (for line numbers) and its plain data."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError("no such file", where=str(path), fix=_near_file(path)) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot be read: {error}", where=str(path)) from None
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            _refuse_duplicates(node, path)
            data = loader.construct_document(node) if node is not None else None
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error)
        raise ConfigError(f"not valid YAML: {problem}", where=f"{path}{line}") from None
    return node, data


def _near_file(path: Path) -> str:
    folder = path.parent
    if not folder.is_dir():
        return f"the folder {folder} does not exist"
    near = difflib.get_close_matches(path.name, [entry.name for entry in folder.iterdir()], n=1)
    return f"did you mean {folder / near[0]}?" if near else "give the path of a YAML file"


def _refuse_duplicates(node: yaml.Node | None, path: Path) -> None:
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if key.value in seen:
                where = f"{path}:{key.start_mark.line + 1}"
                raise ConfigError(f"key {key.value!r} stands twice", where=where, fix="keep one of them")
            seen.add(key.value)
            _refuse_duplicates(value, path)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _refuse_duplicates(item, path)


def _line(node: yaml.Node | None, location: Location) -> int:
    """Line (from 1) of the deepest node on the way to `location`; a key's own line where it is a key."""
    line = node.start_mark.line + 1 if node is not None else 1
    for part in location:
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if key.value == str(part):
                    node, line = value, key.start_mark.line + 1
                    break
            else:
                continue  # a tag of a union, not a key of the file
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
    return line


def _explain(error: ValidationError, node: yaml.Node | None, model: type[BaseModel], path: Path) -> str:
    lines: list[str] = []
    for fault in error.errors(include_url=False):
        location = fault["loc"]
        key = _key(node, location)
        if fault["type"] == "extra_forbidden":
            near = difflib.get_close_matches(str(location[-1]), _fields(model), n=1, cutoff=0.6)
            elsewhere = near == [str(location[-1])]
            hint = (
                "; it is a key of another place (docs/reference)"
                if elsewhere
                else f"; did you mean {near[0]!r}?"
                if near
                else ""
            )
            text = f"unknown key {location[-1]!r}{hint}"
        elif fault["type"] == "missing":
            text = f"key {location[-1]!r} is missing"
        else:
            message = fault["msg"].removeprefix("Value error, ")
            text = f"{key}: {message[:1].lower()}{message[1:]}"
            if isinstance(fault["input"], str | int | float | bool):
                text += f" (got {fault['input']!r})"
        entry = f"{path}:{_line(node, location)}: {text}"
        if entry not in lines:
            lines.append(entry)
    return "\n".join(lines)


def _key(node: yaml.Node | None, location: Location) -> str:
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
    return ".".join(parts) or ".".join(map(str, location))


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

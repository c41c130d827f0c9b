"""Base class of all models of YAML files, and types for names that become files, words of commands and variables."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, AliasChoices, BaseModel, ConfigDict, model_validator
from pydantic.fields import FieldInfo

T = TypeVar("T")

LONGEST_NAME = 100
"""Maximum characters of a name that becomes part of a folder name; file systems allow 255 bytes."""
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Strict(BaseModel):
    """Frozen model that refuses unknown keys, infinity and NaN."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _numbers_are_not_booleans(cls, data: Any) -> Any:
        """Refuse true and false for a number: pydantic would read them as 1 and 0."""
        for name, value in data.items() if isinstance(data, dict) else ():
            field = next((f for known, f in cls.model_fields.items() if name in _names(known, f)), None)
            values = value if isinstance(value, list | tuple) else (value,)
            if field is None or not any(isinstance(each, bool) for each in values):
                continue
            types = set(annotation_parts(field.annotation))
            if types & {int, float} and not types & {bool, Any}:
                raise ValueError(f"`{name}` must be a number, not true or false")
        return data


def _names(name: str, field: FieldInfo) -> list[str]:
    """Return a field's name and its old names."""
    alias = field.validation_alias
    return [name, *(str(other) for other in (alias.choices if isinstance(alias, AliasChoices) else ()))]


def annotation_parts(annotation: Any) -> Iterator[Any]:
    """Yield an annotation and every type in it."""
    yield annotation
    for part in getattr(annotation, "__args__", ()):
        yield from annotation_parts(part)


def models_in(annotation: Any) -> list[type[BaseModel]]:
    """Return the models in an annotation."""
    return [
        part
        for part in annotation_parts(annotation)
        if isinstance(part, type) and issubclass(part, BaseModel)
    ]


def _folder(name: str) -> str:
    if not name or name.startswith(".") or "/" in name or not name.isprintable() or len(name) > LONGEST_NAME:
        raise ValueError(
            f"must have 1 to {LONGEST_NAME} printable characters, no slash, and no dot at the start, "
            "because it becomes part of a folder name"
        )
    return name


def _word(text: str) -> str:
    if not text or text.startswith("-") or not text.isprintable():
        raise ValueError(
            "must have printable characters and no dash at the start, because it becomes an argument of a command"
            + (f"; write ./{text} for a file" if text.startswith("-") and text.isprintable() else "")
        )
    return text


def _command(words: tuple[str, ...]) -> tuple[str, ...]:
    return (_word(words[0]), *words[1:]) if words else words


def variable(name: str) -> str:
    """Return the name of an environment variable.

    Raises:
        ValueError: no shell accepts the name.
    """
    if not _VARIABLE.fullmatch(name):
        raise ValueError(
            f"{name!r} is not a valid name of an environment variable: use letters, digits and _, and do not begin with a digit"
        )
    return name


def _once(values: tuple[T, ...]) -> tuple[T, ...]:
    seen: set[object] = set()
    for place, value in enumerate(values):
        plain = isinstance(value, str | int | float)
        twice = value in seen if plain else value in values[:place]
        if plain:
            seen.add(value)
        if twice:
            raise ValueError(f"{value!r} is listed twice" if plain else "two items are equal")
    return values


Once = AfterValidator(_once)
"""List without equal items."""
FolderName = Annotated[str, AfterValidator(_folder)]
"""Name that becomes part of a folder name."""
Word = Annotated[str, AfterValidator(_word)]
"""Word of a command that cannot be read as an option: an image, a model, a path."""
Command = Annotated[tuple[str, ...], AfterValidator(_command)]
"""A program, and its first arguments."""
Variable = Annotated[str, AfterValidator(variable)]
"""Name of an environment variable."""

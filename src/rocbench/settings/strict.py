"""What all models of YAML files have in common, and names that become files and variables."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, AliasChoices, BaseModel, ConfigDict, model_validator
from pydantic.fields import FieldInfo

T = TypeVar("T")

LONGEST_NAME = 100
"""Characters of a name that becomes part of a folder's; file systems take 255 bytes."""
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Strict(BaseModel):
    """Frozen, and refuses unknown keys and numbers without end."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _numbers_are_no_switches(cls, data: Any) -> Any:
        """Refuse true and false where a number stands, for they would be taken as 1 and 0."""
        for name, value in data.items() if isinstance(data, dict) else ():
            field = next((f for known, f in cls.model_fields.items() if name in _names(known, f)), None)
            values = value if isinstance(value, list | tuple) else (value,)
            if field is None or not any(isinstance(each, bool) for each in values):
                continue
            types = set(_types(field.annotation))
            if types & {int, float} and not types & {bool, Any}:
                raise ValueError(f"`{name}` must be a number, not true or false")
        return data


def _names(name: str, field: FieldInfo) -> list[str]:
    """A field's name, and its old ones."""
    alias = field.validation_alias
    return [name, *(str(other) for other in (alias.choices if isinstance(alias, AliasChoices) else ()))]


def _types(annotation: Any) -> Iterator[Any]:
    """An annotation and everything in it."""
    yield annotation
    for part in getattr(annotation, "__args__", ()):
        yield from _types(part)


def _folder(name: str) -> str:
    if not name or name.startswith(".") or "/" in name or not name.isprintable() or len(name) > LONGEST_NAME:
        raise ValueError(
            "it becomes part of a folder's name: 1 to "
            f"{LONGEST_NAME} printable characters, no slash, no dot in front"
        )
    return name


def _word(text: str) -> str:
    if not text or text.startswith("-") or not text.isprintable():
        raise ValueError(
            "it becomes a word of a command: printable characters, and no dash in front, with which it would be an option"
            + (f"; a file is ./{text}" if text.startswith("-") and text.isprintable() else "")
        )
    return text


def _command(words: tuple[str, ...]) -> tuple[str, ...]:
    return (_word(words[0]), *words[1:]) if words else words


def variable(name: str) -> str:
    """The name of an environment variable, if it is one.

    Raises:
        ValueError: no shell takes it.
    """
    if not _VARIABLE.fullmatch(name):
        raise ValueError(
            f"{name!r} is no name of an environment variable: letters, digits and _, no digit first"
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
            raise ValueError(
                f"{value!r} stands twice" if isinstance(value, str | int | float) else "two are the same"
            )
    return values


Once = AfterValidator(_once)
"""Of a list: no value stands in it twice."""
FolderName = Annotated[str, AfterValidator(_folder)]
"""A name that becomes part of a folder's."""
Word = Annotated[str, AfterValidator(_word)]
"""A word of a command that can be no option: an image, a model, a path."""
Command = Annotated[tuple[str, ...], AfterValidator(_command)]
"""A command: a program, and words before those that are added."""
Variable = Annotated[str, AfterValidator(variable)]
"""The name of an environment variable."""

"""What all models of YAML files have in common, and names that become files and variables."""

from __future__ import annotations

import re
from typing import Annotated, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict

T = TypeVar("T")

LONGEST_NAME = 100
"""Characters of a name that becomes part of a folder's; file systems take 255 bytes."""
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Strict(BaseModel):
    """Frozen, and refuses unknown keys and numbers without end."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True, allow_inf_nan=False)


def _folder(name: str) -> str:
    if not name or name.startswith(".") or "/" in name or not name.isprintable() or len(name) > LONGEST_NAME:
        raise ValueError(
            "it becomes part of a folder's name: 1 to "
            f"{LONGEST_NAME} printable characters, no slash, no dot in front"
        )
    return name


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
    for place, value in enumerate(values):
        if value in values[:place]:
            raise ValueError(
                f"{value!r} stands twice" if isinstance(value, str | int | float) else "two are the same"
            )
    return values


Once = AfterValidator(_once)
"""Of a list: no value stands in it twice."""
FolderName = Annotated[str, AfterValidator(_folder)]
"""A name that becomes part of a folder's."""
Variable = Annotated[str, AfterValidator(variable)]
"""The name of an environment variable."""

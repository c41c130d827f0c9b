"""The reference of the YAML files as Markdown, made from the pydantic models: every key, its type, default and meaning."""

from __future__ import annotations

import ast
import inspect
import textwrap
import types
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from rocbench.settings import schema

_WORDS = {
    int: "whole number",
    float: "number",
    str: "text",
    bool: "true or false",
    type(None): "none",
    Any: "any value",
}
_VALIDATORS = {"_version": "version, `0.14.1`", "_range": "version range, `>=0.14,<0.18`"}


def models() -> str:
    """docs/reference/models.md."""
    return _page(
        schema.ModelProfile,
        "Model profiles",
        "`configs/models/*.yaml`: what a model is, and how it is served per vLLM version. `bench profiles new` writes one "
        "from a `config.json`.",
    )


def hardware() -> str:
    """docs/reference/hardware.md."""
    return _page(
        schema.Hardware, "Hardware profiles", "`configs/hardware/*.yaml`: what a node and its GPUs can do."
    )


def workloads() -> str:
    """docs/reference/workloads.md."""
    return _page(schema.Workload, "Workloads", "`configs/workloads/*.yaml`: what one request is.")


def sweeps() -> str:
    """docs/reference/sweeps.md."""
    return _page(
        schema.Sweep,
        "Sweeps",
        "`configs/sweeps/*.yaml`: which models, on what, under which loads. `bench plan SWEEP` prints what follows from "
        "one without starting anything.",
    )


def _page(root: type[BaseModel], title: str, about: str) -> str:
    parts = [
        f"# {title}",
        "Made by `scripts/generate-docs` from `src/rocbench/settings/schema.py`.",
        f"{about} A key that is not listed is refused, so that a misspelt one is not lost.",
    ]
    parts += [_model(model) for model in _reachable(root)]
    return "\n\n".join(parts) + "\n"


def _reachable(root: type[BaseModel]) -> list[type[BaseModel]]:
    """The model and those that its keys hold, in the order they are met."""
    found: list[type[BaseModel]] = []
    pending = [root]
    while pending:
        model = pending.pop(0)
        if model not in found:
            found.append(model)
            for field in model.model_fields.values():
                pending += [inner for inner in _models_in(field.annotation) if inner not in found]
    return found


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)


def _model(model: type[BaseModel]) -> str:
    meanings = _meanings(model)
    rows = [
        f"| `{name}` | {_type(field.annotation, field.metadata)} | {_default(field)} | {meanings.get(name, '')} |"
        for name, field in model.model_fields.items()
    ]
    about = inspect.cleandoc(model.__doc__ or "")
    return "\n".join(
        [
            f"## {model.__name__}",
            "",
            about,
            "",
            "| Key | Value | Default | Meaning |",
            "|---|---|---|---|",
            *rows,
        ]
    )


def _meanings(model: type[BaseModel]) -> dict[str, str]:
    """The string that stands below each field, on one line."""
    found: dict[str, str] = {}
    for cls in reversed([c for c in model.__mro__ if issubclass(c, BaseModel) and c is not BaseModel]):
        body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
        assert isinstance(body, ast.ClassDef)
        for node, after in zip(body.body, body.body[1:], strict=False):
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and _is_text(after):
                text = ast.literal_eval(after.value)  # type: ignore[attr-defined]
                found[node.target.id] = " ".join(text.split()).replace("|", "\\|")
    return found


def _is_text(node: ast.stmt) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = (
        field.default
        if field.default is not PydanticUndefined
        else field.get_default(call_default_factory=True)
    )
    if value is None:
        return ""
    if isinstance(value, BaseModel):
        return f"as in {_link(type(value))}"
    if value in ((), {}, ""):
        return "empty"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _type(annotation: Any, metadata: Any = ()) -> str:
    """A type in words, with its limits."""
    words = _plain_type(annotation)
    for limit in metadata:
        words = _limited(words, limit)
    return words


def _limited(words: str, limit: Any) -> str:
    match limit:
        case Gt(gt=value):
            return f"{words} > {value}"
        case Ge(ge=value):
            return f"{words} >= {value}"
        case Lt(lt=value):
            return f"{words} < {value}"
        case Le(le=value):
            return f"{words} <= {value}"
        case _:
            said = _VALIDATORS.get(getattr(getattr(limit, "func", None), "__name__", ""))
            return said or words


def _plain_type(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type(arguments[0], arguments[1:])
    if origin in {Union, types.UnionType}:
        if annotation == schema.FlagValue:
            return "flag value"
        return " or ".join(dict.fromkeys(_type(a) for a in arguments if a is not type(None)))
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    if origin is tuple:
        if arguments[-1] is Ellipsis:
            return f"list of {_type(arguments[0])}"
        return ", ".join(_type(a) for a in arguments)
    if origin is dict:
        return f"map of {_type(arguments[0])} to {_type(arguments[1])}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return _link(annotation)
    return _WORDS.get(annotation, str(annotation))


def _link(model: type[BaseModel]) -> str:
    return f"[{model.__name__}](#{model.__name__.lower()})"

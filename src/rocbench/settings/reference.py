"""Reference pages of the YAML files, generated from the pydantic models: every key, its type, default and meaning."""

from __future__ import annotations

import ast
import inspect
import itertools
import textwrap
import types
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from rocbench.settings import schema
from rocbench.settings.yamlfile import reachable

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
        "`configs/models/*.yaml`: a model, and its serve arguments per vLLM version. `bench profiles new` writes a profile "
        "from a `config.json`.",
    )


def hardware() -> str:
    """docs/reference/hardware.md."""
    return _page(
        schema.Hardware,
        "Hardware profiles",
        "`configs/hardware/*.yaml`: the capabilities of a node and its GPUs.",
    )


def workloads() -> str:
    """docs/reference/workloads.md."""
    return _page(schema.Workload, "Workloads", "`configs/workloads/*.yaml`: the content of one request.")


def sweeps() -> str:
    """docs/reference/sweeps.md."""
    return _page(
        schema.Sweep,
        "Sweeps",
        "`configs/sweeps/*.yaml`: models, hardware and loads to measure. `bench plan SWEEP` prints the resulting plan and "
        "starts nothing.",
    )


def _page(root: type[BaseModel], title: str, about: str) -> str:
    parts = [
        f"# {title}",
        f"{about} Any other key is an error, so a misspelt key is never ignored.",
    ]
    parts += [_model(model) for model in reachable(root)]
    return "\n\n".join(parts) + "\n"


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
    """Return the docstring below each field, on one line."""
    meanings: dict[str, str] = {}
    (body,) = ast.parse(textwrap.dedent(inspect.getsource(model))).body
    assert isinstance(body, ast.ClassDef)
    for node, after in itertools.pairwise(body.body):
        match node, after:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                meanings[name] = " ".join(text.split()).replace("|", "\\|")
    return meanings


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
    """Describe a type and its limits in words."""
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
            return _VALIDATORS.get(getattr(getattr(limit, "func", None), "__name__", ""), words)


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

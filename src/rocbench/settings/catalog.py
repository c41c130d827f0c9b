"""Find profiles by name or path: a user's own folder first, then those in the package."""

from __future__ import annotations

import difflib
import os
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel

from rocbench import textfile
from rocbench.errors import ConfigError
from rocbench.settings import yamlfile
from rocbench.settings.schema import Hardware, ModelProfile, Sweep, Workload
from rocbench.settings.yamltext import shown

PACKAGED = Path(__file__).parent.parent / "configs"
DEFAULT_SWEEP = "quick"

Model = TypeVar("Model", bound=BaseModel)


def folders(kind: str) -> list[Path]:
    """Where `kind` (models, hardware, workloads, sweeps) is looked for: $ROCBENCH_CONFIGS, then the package."""
    own = [Path(entry) for entry in os.environ.get("ROCBENCH_CONFIGS", "").split(os.pathsep) if entry]
    return [root / kind for root in (*own, PACKAGED) if (root / kind).is_dir()]


def names(kind: str) -> list[str]:
    """Every name of `kind`, sorted."""
    return sorted({path.stem for folder in folders(kind) for path in folder.glob("*.yaml")})


def path_of(kind: str, name: str) -> Path:
    """The file of a profile; `name` may be a path to a YAML file.

    Raises:
        ConfigError: there is none, with the nearest name.
    """
    if name.endswith((".yaml", ".yml")) or (
        os.sep in name and (kind != "models" or textfile.is_file(Path(name)))
    ):
        return Path(name)
    for folder in folders(kind):
        if textfile.is_file(folder / f"{name}.yaml"):
            return folder / f"{name}.yaml"
    known = names(kind)
    if kind == "models" and (profile := named_model(name)):
        raise ConfigError(f"no profile named {name!r}", fix=f"{profile!r} is the profile of this model")
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
    raise ConfigError(f"no {kind.removesuffix('s')} named {shown(name)}", fix=f"{hint} (bench profiles list)")


def _load(kind: str, name: str, model: type[Model]) -> Model:
    return yamlfile.load(path_of(kind, name), model)


def model(name: str) -> ModelProfile:
    """A model profile by name or path."""
    return _load("models", name, ModelProfile)


def named_model(name: str) -> str | None:
    """The profile that goes by `name`: its own name or its Hugging Face id, with or without the organisation.

    Case does not count. None where there is none.
    """
    wanted = name.lower()
    known = names("models")
    if (own := next((one for one in known if one.lower() == wanted), None)) is not None:
        return own
    ids = ((one, model(one).hf_id.lower()) for one in known)
    return next((one for one, hf_id in ids if wanted in (hf_id, hf_id.rpartition("/")[2])), None)


def hardware(name: str) -> Hardware:
    """A hardware profile by name or path."""
    return _load("hardware", name, Hardware)


def workload(name: str) -> Workload:
    """A workload by name or path."""
    return _load("workloads", name, Workload)


def sweep(name: str | None) -> tuple[Sweep, Path]:
    """A sweep by name or path (the default one when None), and its file."""
    path = path_of("sweeps", name or DEFAULT_SWEEP)
    return yamlfile.load(path, Sweep), path

"""Find profiles by name or path: first in the folders of $ROCBENCH_CONFIGS, then in the package."""

from __future__ import annotations

import difflib
import os
from pathlib import Path

from rocbench import textfile
from rocbench.errors import ConfigError
from rocbench.settings import yamlfile
from rocbench.settings.schema import Hardware, ModelProfile, Sweep, Workload
from rocbench.settings.yamltext import shown

PACKAGED = Path(__file__).parent.parent / "configs"
DEFAULT_SWEEP = "quick"


def folders(kind: str) -> list[Path]:
    """Return the folders to search for a kind (models, hardware, workloads, sweeps), in order of precedence."""
    own = [Path(entry) for entry in os.environ.get("ROCBENCH_CONFIGS", "").split(os.pathsep) if entry]
    return [root / kind for root in (*own, PACKAGED) if (root / kind).is_dir()]


def names(kind: str) -> list[str]:
    """Return every name of a kind, sorted."""
    return sorted({path.stem for folder in folders(kind) for path in folder.glob("*.yaml")})


def path_of(kind: str, name: str) -> Path:
    """Return the file of a profile; `name` may be the path of a YAML file.

    Raises:
        ConfigError: there is no such profile; with the nearest name.
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
        raise ConfigError(f"no profile named {name!r}", fix=f"use {profile!r}, the profile of this model")
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
    raise ConfigError(f"no {kind.removesuffix('s')} named {shown(name)}", fix=f"{hint} (bench profiles list)")


def model(name: str) -> ModelProfile:
    """Read a model profile by name or path."""
    return yamlfile.load(path_of("models", name), ModelProfile)


def named_model(name: str) -> str | None:
    """Return the model profile with this name or Hugging Face id, with or without the organisation, in any case.

    None if there is none.
    """
    lower = name.lower()
    known = names("models")
    if (exact := next((profile for profile in known if profile.lower() == lower), None)) is not None:
        return exact
    ids = ((profile, model(profile).hf_id.lower()) for profile in known)
    return next((profile for profile, hf_id in ids if lower in (hf_id, hf_id.rpartition("/")[2])), None)


def hardware(name: str) -> Hardware:
    """Read a hardware profile by name or path."""
    return yamlfile.load(path_of("hardware", name), Hardware)


def workload(name: str) -> Workload:
    """Read a workload by name or path."""
    return yamlfile.load(path_of("workloads", name), Workload)


def sweep(name: str | None) -> tuple[Sweep, Path]:
    """Read a sweep by name or path (None: the default sweep); return it and its file."""
    path = path_of("sweeps", name or DEFAULT_SWEEP)
    return yamlfile.load(path, Sweep), path

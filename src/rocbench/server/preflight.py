"""Checks before a server starts: the model's files, disk space for them, the token to download them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from rocbench.errors import EnvironmentFault, NodeFault
from rocbench.server.spec import ServerSpec
from rocbench.units import size

_MARGIN = 1.05
"""Factor on the weights' bytes, for the tokenizer and partial downloads."""


def check_model(spec: ServerSpec, environ: Mapping[str, str] | None = None) -> None:
    """Checks that the model is present or can be downloaded. Reads the disk, without network access.

    Raises:
        EnvironmentFault: the path does not exist, or a token or the network is needed and not available.
        NodeFault: too little disk space to download it.
    """
    env = {**(os.environ if environ is None else environ), **spec.env}
    model = spec.model
    if model.startswith(("/", "./", "../", "~")):
        if not Path(model).expanduser().exists():
            raise EnvironmentFault(
                f"there is no model at {model}", fix="check the path; it must contain config.json"
            )
        return
    if Path(model).exists() or "/" not in model or is_cached(model, env):
        return
    if env.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on"):
        raise EnvironmentFault(
            f"{model} is not in the cache {hub_cache(env)}, and HF_HUB_OFFLINE forbids the download",
            fix="download it first, or unset HF_HUB_OFFLINE",
        )
    if spec.gated and not token(env):
        raise EnvironmentFault(
            f"{model} is gated and HF_TOKEN is not set",
            fix="accept the licence on the page of the model and export HF_TOKEN (bench never writes it to a file)",
        )
    _check_space(spec, env)


def is_cached(model: str, env: Mapping[str, str]) -> bool:
    """True if the hub's cache holds a snapshot of the model."""
    snapshots = hub_cache(env) / f"models--{model.replace('/', '--')}" / "snapshots"
    return any(snapshots.glob("*/config.json"))


def hub_cache(env: Mapping[str, str]) -> Path:
    """The model folder of huggingface_hub: HF_HUB_CACHE, else HF_HOME/hub, else ~/.cache/huggingface/hub."""
    chosen = env.get("HF_HUB_CACHE")
    return Path(chosen).expanduser() if chosen else hf_home(env) / "hub"


def hf_home(env: Mapping[str, str]) -> Path:
    """The base folder of huggingface_hub: HF_HOME, else huggingface in XDG_CACHE_HOME, else in ~/.cache."""
    home = env.get("HF_HOME") or Path(env.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    return Path(home).expanduser()


def token(env: Mapping[str, str]) -> bool:
    """True if a token is available: HF_TOKEN, or the file that `hf auth login` writes."""
    if env.get("HF_TOKEN") or env.get("HUGGING_FACE_HUB_TOKEN"):
        return True
    stored = env.get("HF_TOKEN_PATH") or hub_cache(env).parent / "token"
    return Path(stored).expanduser().exists()


def _check_space(spec: ServerSpec, env: Mapping[str, str]) -> None:
    if spec.weight_bytes is None:
        return
    folder = hub_cache(env)
    existing = next((parent for parent in (folder, *folder.parents) if parent.exists()), Path("/"))
    free = shutil.disk_usage(existing).free
    if free < _MARGIN * spec.weight_bytes:
        raise NodeFault(
            f"{spec.model} needs {size(spec.weight_bytes)} of disk space, but {existing} has only {size(free)} free",
            fix="free space, or set HF_HOME to a larger disk",
        )

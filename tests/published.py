"""Published model configs (the fields that decide dimensions) and what is known of the models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from rocbench.model import architecture
from rocbench.model.architecture import Architecture
from rocbench.settings.checkpoints import detect_checkpoint
from rocbench.settings.schema import Checkpoint

FOLDER = Path(__file__).parent / "fixtures" / "hf_configs"


class Known(NamedTuple):
    """Facts to hold the derivation against: billions of parameters, bytes per token at 2 bytes a number."""

    family: str
    total: float
    active: float
    kv: float | None = None
    indexer: float = 0.0
    within: float = 0.01


MODELS = {
    "llama-3.1-405b": Known("gqa", 405.85, 405.85, 516_096),
    "deepseek-v3": Known("mla_dense", 671.03, 37.55, 70_272),
    "deepseek-v3.2": Known("mla_sparse", 671.88, 38.40, 70_272, 8_052),
    "kimi-k2": Known("mla_dense", 1026.4, 32.86, 70_272),
    "kimi-k2.5": Known("mla_dense", 1026.4, 32.86, 70_272),
    "qwen3-235b": Known("gqa", 235.09, 22.19, 192_512),
    "qwen3-vl-235b": Known("gqa", 235.09, 22.19, 192_512),
    "glm-5": Known("mla_sparse", 743.9, 41.8, 89_856, 10_296),
    "gpt-oss-120b": Known("gqa", 116.79, 5.71, 73_728),
    "minimax-m2": Known("gqa", 228.7, 11.0, 253_952),
    # published as rounded figures only
    "minimax-m3": Known("gqa", 427, 26),
    "deepseek-v4-flash": Known("mla_compressed", 284, 13, within=0.07),
    "deepseek-v4-pro": Known("mla_compressed", 1600, 49, within=0.02),
    "deepseek-v4.1-flash": Known("mla_compressed", 552, 16, 2_560, 330, within=0.05),
    "kimi-k3": Known("hybrid", 2780, 104, within=0.015),
    "qwen3.5-397b": Known("hybrid", 397, 17, within=0.025),
}


def config(name: str) -> dict[str, Any]:
    """A model's config.json."""
    loaded: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text())
    return loaded


def arch(name: str, **changes: Any) -> Architecture:
    """A model's architecture, with fields of the config changed."""
    return architecture.from_config({**config(name), **changes})


def checkpoint(name: str) -> Checkpoint:
    """How a model's weights are stored."""
    return detect_checkpoint(config(name))[0]

"""Computed against published parameters and KV bytes, for every model whose count is cited."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from rocbench.model.architecture import from_config
from rocbench.physics import kv
from rocbench.physics.layout import Layout

TABLE = yaml.safe_load((Path(__file__).parents[2] / "fixtures" / "published_parameters.yaml").read_text())


def within(computed: float, published: float, rounded: float) -> bool:
    """Within 1 %, or half of the last digit that the source gives."""
    return abs(computed - published) <= max(0.01 * published, rounded / 2)


@pytest.mark.parametrize("model", TABLE, ids=lambda model: model["name"])
def test_computed_is_published(model):
    """Total and active parameters and the growth of the KV cache, with no doubt that hides a wrong one."""
    arch = from_config(model["config"])
    assert arch.unknown == ()
    assert within(arch.total_params, model["total"] - model.get("apart", 0), model.get("rounded", 0))
    if "active" in model:
        left_out = {
            "embedding": arch.parts.embedding,
            "embedding and head": arch.parts.embedding + arch.parts.head,
        }
        active = arch.active_params - left_out.get(model.get("without"), 0)
        assert within(active, model["active"], model.get("active_rounded", 0))
    if "kv" in model:
        grown = [kv.sequence_bytes_per_rank(arch, Layout(), tokens) for tokens in (40_000.0, 40_001.0)]
        assert grown[1] - grown[0] == pytest.approx(model["kv"])


def test_the_table_is_long_enough_to_mean_something():
    """Dense, routed, latent, sliding, hybrid and old forms, 40 at least, each with its source."""
    assert len(TABLE) >= 40
    assert all(model["source"] for model in TABLE)
    assert len({model["config"]["model_type"] for model in TABLE if "model_type" in model["config"]}) >= 40

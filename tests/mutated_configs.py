"""A config.json that no model has: those of real models with a few changes, in their tree or their text. Made by a seed."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mutated_settings import PLAIN, ROOT, SWEEP, Case, encoded


def json_values(rng: random.Random) -> Any:
    """Something that takes the place of a value of a config."""
    return rng.choice(
        (
            None, True, False, 0, 1, -1, 2, 3, 7, 10**9, 10**12, 10**19, 10**30, 10**400, 0.5, -0.5, 1e308, 1e-320, float("inf"), float("nan"),
            "", "x", "0", "7", "fp8", "\ud800", "\0", "x" * 3000, "M*E-", "LLLG", [], {}, [[]], [{}], [0], [1], [-1], [None], ["x"], [1.5], [10**12],
            ["full_attention"], ["sliding_attention", "x"], [1] * 61, [0] * 5000, {"a": 1}, {"x": {"y": [1]}}, {"quant_method": "fp8"},
            {"quant_method": ["x"]}, {"sparse_topk_blocks": "x"}, nested(70), nested(900),
        )
    )  # fmt: skip


def nested(depth: int) -> Any:
    """Lists in each other."""
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def places(value: Any) -> list[tuple[Any, Any]]:
    """(container, key) of every value in a tree."""
    found: list[tuple[Any, Any]] = []
    waiting = [value]
    while waiting:
        here = waiting.pop()
        keys = list(here) if isinstance(here, dict) else range(len(here)) if isinstance(here, list) else ()
        found += [(here, key) for key in keys]
        waiting += [here[key] for key in keys]
    return found


FIELDS = (
    "num_hidden_layers num_attention_heads num_key_value_heads hidden_size vocab_size head_dim kv_lora_rank q_lora_rank qk_nope_head_dim "
    "v_head_dim n_routed_experts num_experts num_experts_per_tok moe_intermediate_size layer_types block_configs compress_ratios index_topk "
    "sliding_window sparse_attention_config linear_attn_config attn_config ffn_config vision_config text_config quantization_config "
    "architectures model_type hybrid_override_pattern moe_layer_freq first_k_dense_replace mlp_layer_types moe_layers full_attn_idxs "
    "attn_layer_period attention_chunk_size no_rope_layers sliding_window_pattern mamba_d_state linear_num_value_heads indexer_types "
    "index_topk_pattern index_topk_freq expert_layer_period decoder_sparse_step multi_query dtype torch_dtype rope_scaling _name_or_path"
).split()
"""Names that decide something in some model."""


def config_text(text: str, rng: random.Random) -> str:
    """A config.json with one to three changes, in its tree or in its text."""
    data = json.loads(text)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        container, key = rng.choice(places(data) or [({}, "x")])
        match rng.choice(("value", "value", "value", "add", "add", "drop", "move")):
            case "value":
                container[key] = json_values(rng)
            case "add":
                owner = container if isinstance(container, dict) else data
                owner[rng.choice(FIELDS)] = json_values(rng)
            case "drop":
                del container[key]
            case "move" if isinstance(container, dict):
                container[rng.choice(FIELDS)] = container.pop(key)
    if rng.random() < 0.02:
        data = json_values(rng)
    text = json.dumps(data, indent=rng.choice((None, None, 1)))
    if rng.random() < 0.1:
        text = re.sub("[0-9]{400,}", "9" * 4400, text)
    if rng.random() < 0.15:
        place = rng.randrange(len(text) + 1)
        text = (
            text[:place]
            + rng.choice(
                ("", "\0", '"', "[", "{", "}", ",", "1e999", "\\ud800", "NaN", '"a":1,"a":2,', "[" * 100_000)
            )
            + text[place + rng.randrange(3) :]
        )
    return text


def cases(first: int, seeds: int, folder: Path) -> Iterator[Case]:
    """Each mutated config.json to a profile, and where that was written, to its flags and a plan."""
    texts = [
        path.read_text(encoding="utf-8")
        for path in sorted((ROOT / "tests/fixtures/hf_configs").glob("*.json"))
    ]
    config, profile, sweep = folder / "config.json", folder / "made.yaml", folder / "plan.yaml"
    sweep.write_text(SWEEP.format(**PLAIN | {"model": str(profile)}), encoding="utf-8")
    for seed in range(first, first + seeds):
        rng = random.Random(seed)
        config.write_bytes(encoded(config_text(rng.choice(texts), rng), rng))
        profile.unlink(missing_ok=True)
        yield seed, str(config), (("profiles", "new", str(config), "--out", str(profile)),)
        if profile.exists():
            yield seed, str(profile), (("explain", str(profile)), ("plan", str(sweep)))

"""Read fields of a Hugging Face `config.json` under all the names they go by. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rocbench.errors import ConfigError

TEXT_KEYS = ("text_config", "llm_config", "language_config", "thinker_config")
"""Where multimodal configs keep the language model's part."""

OTHER_KINDS = ("n_head", "n_layer", "n_embd", "num_heads", "num_layers", "d_model", "state_size", "ssm_cfg")
"""Fields of GPT-2, T5 and Mamba kinds, by which those give their dimensions."""


class Fields:
    """A config's language-model part (nested `text_config` or the config itself), outer fields behind it."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        nested = next((config[key] for key in TEXT_KEYS if isinstance(config.get(key), Mapping)), None)
        if nested is not None and isinstance(nested.get("text_config"), Mapping):
            nested = nested["text_config"]
        self.text: Mapping[str, Any] = nested if nested is not None else config
        self.outer = config

    def raw(self, *names: str) -> Any:
        """The first of `names` that is there and not null, in the text part, then outside; else None."""
        for source in (self.text, self.outer):
            for name in names:
                if source.get(name) is not None:
                    return source[name]
        return None

    def need(self, *names: str) -> int:
        """A positive whole number that the model cannot be described without.

        Raises:
            ConfigError: none of `names` is there, or it is no positive whole number.
        """
        value = self.number(*names)
        if value is None:
            also = f" (nor {', '.join(names[1:])})" if names[1:] else ""
            otherwise = [name for name in OTHER_KINDS if self.raw(name) is not None]
            if otherwise:
                raise ConfigError(
                    f"model type {self.raw('model_type')!r} is of a kind that is not described: its config has no "
                    f"`{names[0]}` but {', '.join(otherwise)}",
                    where="config.json",
                    fix="decoders with attention can be, by num_attention_heads, num_hidden_layers, hidden_size",
                )
            raise ConfigError(
                f"the model's config has no `{names[0]}`{also}",
                where="config.json",
                fix="give the whole config.json of the checkpoint, with its nested text_config, and write out what "
                "transformers fills in by default",
            )
        if value <= 0:
            raise ConfigError(f"`{names[0]}` is {value}, it must be above 0", where="config.json")
        return value

    def number(self, *names: str) -> int | None:
        """A whole number, or None where the config has none of `names`.

        Raises:
            ConfigError: there is a value and it is no whole number.
        """
        value = self.raw(*names)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value):
            raise ConfigError(f"`{names[0]}` is {value!r}, it must be a whole number", where="config.json")
        return int(value)

    def flag(self, name: str, default: bool = False) -> bool:
        """A switch; `default` where the config does not say."""
        value = self.raw(name)
        return default if value is None else bool(value)

    def listed(self, name: str) -> list[Any] | None:
        """A list, or None where the config has none."""
        value = self.raw(name)
        return list(value) if isinstance(value, list | tuple) else None


def moe_layers(fields: Fields, layers: int) -> int:
    """How many layers have routed experts.

    By `mlp_layer_types`, a per-layer `moe_layer_freq`, or `first_k_dense_replace` with `moe_layer_freq`,
    `decoder_sparse_step` and `mlp_only_layers`, as vLLM's models read them (deepseek_v2.py, qwen3_moe.py).
    """
    kinds = fields.listed("mlp_layer_types")
    if kinds is not None:
        return sum(1 for kind in kinds[:layers] if kind != "dense")
    frequency = fields.raw("moe_layer_freq")
    if isinstance(frequency, list | tuple):
        return sum(1 for on in frequency[:layers] if on)
    dense = set(fields.listed("mlp_only_layers") or ())
    every = int(frequency) if frequency else 1
    step = fields.number("decoder_sparse_step") or 1
    first = fields.number("first_k_dense_replace", "moe_first_k_dense_replace") or 0
    return sum(
        1
        for layer in range(first, layers)
        if layer % every == 0 and (layer + 1) % step == 0 and layer not in dense
    )

"""Count the parameters of a layer with a state instead of a KV cache, and the numbers in that state. Pure.

Gated delta nets (Qwen3-Next, Qwen3.5), Kimi delta attention, lightning attention (MiniMax-Text-01), Mamba 1 and 2,
and short convolutions (LFM2), as vLLM declares them (v0.32.0, layers/mamba/mamba_utils.py and the models' files).
"""

from __future__ import annotations

from dataclasses import dataclass

from rocbench.errors import ConfigError
from rocbench.model.hfconfig import Fields

CONV = ("mamba_d_conv", "conv_kernel")


@dataclass(frozen=True, slots=True)
class State:
    """One layer: parameters split over ranks, vectors, and the numbers in the state of one sequence."""

    split: int = 0
    norms: int = 0
    recurrent: int = 0
    """Numbers of the recurrent state."""
    window: int = 0
    """Numbers of the convolution's window."""

    @property
    def numbers(self) -> int:
        """Total numbers in the state of one sequence."""
        return self.recurrent + self.window


def state(config: Fields) -> State | None:
    """One linear layer from the fields of its kind; None (a doubt) if a field is missing."""
    try:
        for applies, count in (
            (bool(config.part("linear_attn_config")) or config.number("linear_num_heads") is not None, _kda),
            (config.number("linear_num_value_heads") is not None, _delta_net),
            (config.number("mamba_n_heads", "mamba_num_heads") is not None, _mamba2),
            (config.number("mamba_d_state", "ssm_state_size") is not None, _mamba1),
            (config.number("conv_L_cache") is not None, _short_convolution),
            (config.model_type.startswith("minimax"), _lightning),
        ):
            if applies:
                return count(config)
    except (ConfigError, KeyError, TypeError, ValueError) as fault:
        config.doubt("linear layers", f"are not fully described: {fault}")
        return None
    config.doubt("linear layers", "no field describes them")
    return None


def _kda(config: Fields) -> State:
    hidden, settings = config.need("hidden_size"), config.part("linear_attn_config")
    if not settings:
        settings = {
            "num_heads": config.need("linear_num_heads"),
            "head_dim": config.need("linear_head_dim"),
            "short_conv_kernel_size": config.number("linear_conv_kernel_dim") or 4,
        }
    heads, dim = int(settings["num_heads"]), int(settings["head_dim"])
    width = heads * dim
    gate = hidden * width if settings.get("use_full_rank_gate") else hidden * dim + dim * width
    forget = hidden * dim + dim * width
    kernel = int(settings.get("short_conv_kernel_size", 4))
    vectors = hidden * heads + width + heads + 3 * width * kernel + dim
    return State(
        4 * hidden * width + gate + forget + vectors, 0, heads * dim * dim, 3 * heads * dim * (kernel - 1)
    )


def _delta_net(config: Fields) -> State:
    hidden = config.need("hidden_size")
    heads, key_heads = config.need("linear_num_value_heads"), config.need("linear_num_key_heads")
    key, value = config.need("linear_key_head_dim"), config.need("linear_value_head_dim")
    mixed = 2 * key_heads * key + heads * value
    kernel = config.number("linear_conv_kernel_dim") or 4
    split = hidden * (mixed + heads * value) + heads * value * hidden + 2 * hidden * heads
    split += mixed * kernel + 2 * heads
    return State(split, value, heads * key * value, mixed * (kernel - 1))


def _lightning(config: Fields) -> State:
    hidden, heads = config.need("hidden_size"), config.need("num_attention_heads")
    dim = config.number("head_dim") or hidden // heads
    width = heads * dim
    return State(hidden * 3 * width + 2 * hidden * width, width, heads * dim * dim)


def _mamba2(config: Fields) -> State:
    hidden, heads = config.need("hidden_size"), config.need("mamba_n_heads", "mamba_num_heads")
    expanded = (config.number("mamba_expand", "expand") or 2) * hidden
    inner = config.number("mamba_d_ssm") or 0
    if config.raw("mamba_d_head") == "auto":
        inner = inner or expanded
    else:
        inner = inner or heads * config.need("mamba_d_head", "mamba_head_dim")
    numbers = config.need("mamba_d_state", "ssm_state_size")
    groups, kernel = config.number("mamba_n_groups", "n_groups", "mamba_ngroups") or 1, config.need(*CONV)
    mixed = inner + 2 * groups * numbers
    split = hidden * (inner + mixed + heads) + mixed * kernel + 3 * heads + inner * hidden
    split += mixed if config.flag("use_conv_bias") or config.flag("mamba_conv_bias") else 0
    if config.flag("mamba_proj_bias") or config.flag("use_bias"):
        split += inner + mixed + heads + hidden
    normed = config.flag("mamba_rms_norm", default=config.model_type != "falcon_h1")
    return State(split, inner if normed else 0, inner * numbers, mixed * (kernel - 1))


def _mamba1(config: Fields) -> State:
    hidden, numbers = config.need("hidden_size"), config.need("mamba_d_state", "ssm_state_size")
    inner = (config.number("mamba_expand", "expand") or 2) * hidden
    rank = config.raw("mamba_dt_rank", "time_step_rank")
    if not isinstance(rank, int) or isinstance(rank, bool):  # absent, or "auto"
        rank = -(-hidden // 16)
    kernel = config.need(*CONV)
    split = hidden * 2 * inner + inner * kernel + inner * (rank + 2 * numbers) + rank * inner + inner
    split += inner * numbers + inner + inner * hidden
    split += inner if config.flag("mamba_conv_bias") or config.flag("use_conv_bias") else 0
    split += 2 * inner + hidden if config.flag("mamba_proj_bias") or config.flag("use_bias") else 0
    return State(split, rank + 2 * numbers, inner * numbers, inner * (kernel - 1))


def _short_convolution(config: Fields) -> State:
    hidden, kernel = config.need("hidden_size"), config.need("conv_L_cache")
    biased = 5 * hidden if config.flag("conv_bias") else 0
    return State(4 * hidden * hidden + hidden * kernel + biased, 0, 0, hidden * (kernel - 1))

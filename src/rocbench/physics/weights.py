"""Weight bytes on each GPU. Pure; bytes throughout."""

from __future__ import annotations

from dataclasses import dataclass, fields

from rocbench.model.architecture import Architecture
from rocbench.model.parameters import Parts
from rocbench.physics.layout import Layout
from rocbench.settings.schema import Checkpoint, Hardware

FULL_PRECISION = 2.0
"""Bytes of a BF16 or FP16 weight."""
FP32 = 4.0
E8M0 = 1.0
MXFP4_GROUP = 32
TABLE_BYTES = 1 + E8M0 / 32
"""Bytes of a number in a table of n-gram embeddings: FP8, with a scale for each 32 (vLLM v0.33.0
models/deepseek_v41/common/engram.py:953-1000)."""
EXPERTS_ONLY = ("int4_group", "mxfp4")
"""Quantisations that published checkpoints apply to routed experts alone (Kimi-K2.5, Kimi-K3, gpt-oss)."""


@dataclass(frozen=True, slots=True)
class WeightBytes:
    """Bytes of weights on the fullest rank."""

    embedding: float = 0.0
    head: float = 0.0
    attention: float = 0.0
    """Split attention projections and linear-attention layers, KV projections with their copies."""
    replicated: float = 0.0
    """MLA down-projections, indexers, routers, norms: identical on each rank."""
    mlp: float = 0.0
    """Dense MLPs and shared experts."""
    experts: float = 0.0
    """Routed experts."""
    mtp: float = 0.0
    vision: float = 0.0
    tables: float = 0.0
    """Tables of n-gram embeddings, unless they are in the host's memory."""

    @property
    def total(self) -> float:
        """The total."""
        return float(sum(getattr(self, f.name) for f in fields(self)))


def doubts(arch: Architecture, checkpoint: Checkpoint, hardware: Hardware | None = None) -> tuple[str, ...]:
    """Return the parts of a model's shape and weights that are not understood, and hardware figures that may change.

    If there are any, no figure derived from them refuses or voids anything.
    """
    announced: tuple[str, ...] = ()
    if hardware is not None and hardware.announced and hardware.gpu is not None:
        announced = (f"hardware: the figures of {hardware.gpu.name} are announced, not from a data sheet",)
    return (*arch.unknown, *checkpoint.unsure, *announced)


def quantised_bytes(checkpoint: Checkpoint) -> float:
    """Return the bytes of one quantised weight with its share of the scales.

    fp8_block: 1 + 4 / (rows x columns), an FP32 scale per block (128 x 128 unless given).
    fp8_channel: 1, the scales per channel are left out (under 0.1 %).
    int4_group: bits / 8 + 2 / group, a BF16 scale per group (32 unless given).
    mxfp4: 4 / 8 + 1 / 32, an E8M0 scale per 32.
    none: bits / 8, and 1 / group where there is a group (NVFP4: an FP8 scale per 16).
    Sources: vLLM v0.33.0 quantization/fp8.py, compressed_tensors; OCP Microscaling Formats 1.0.
    """
    match checkpoint.quantization:
        case "fp8_block":
            rows, columns = checkpoint.block or (128, 128)
            return 1 + FP32 / (rows * columns)
        case "fp8_channel":
            return 1.0
        case "int4_group":
            bits = checkpoint.bits if checkpoint.bits < 8 else 4
            return bits / 8 + FULL_PRECISION / (checkpoint.group or 32)
        case "mxfp4":
            return 0.5 + E8M0 / MXFP4_GROUP
        case "none":
            return checkpoint.bits / 8 + (1 / checkpoint.group if checkpoint.group else 0.0)


def linear_bytes(arch: Architecture, checkpoint: Checkpoint, layout: Layout) -> float:
    """Bytes of one weight of a linear layer outside the routed experts."""
    if checkpoint.linear_bits is not None:
        return checkpoint.linear_bits / 8
    if checkpoint.quantization in EXPERTS_ONLY and arch.moe:
        return FULL_PRECISION
    return expert_bytes(checkpoint, layout)


def expert_bytes(checkpoint: Checkpoint, layout: Layout) -> float:
    """Bytes of one weight of a routed expert."""
    if checkpoint.quantization == "none" and layout.online_fp8:
        return 1.0
    return quantised_bytes(checkpoint)


def items(arch: Architecture, checkpoint: Checkpoint, layout: Layout) -> WeightBytes:
    """Weight bytes of the fullest rank, by part.

    As vLLM shards them: head-split projections, dense MLPs, shared experts and the vocabulary over tp; KV
    projections over min(tp, KV heads), so copied beyond that; MLA down-projections, indexer, router and norms
    whole on each rank; routed experts over tp x dp, with expert parallelism or without (v0.33.0
    fused_moe/config.py, `flatten_tp_across_dp`); layers over pp, with the embedding on the first stage and
    the head on the last; the vision tower whole on each rank with `--mm-encoder-tp-mode data`, else over tp.
    """
    p: Parts = arch.parts
    linear, expert = linear_bytes(arch, checkpoint, layout), expert_bytes(checkpoint, layout)
    tp, pp, ranks = layout.tp, layout.pp, layout.tp * layout.dp * layout.pcp
    kv_split = min(tp, max(1, arch.num_kv_heads))
    embedding, head = FULL_PRECISION * p.embedding / tp, FULL_PRECISION * p.head / tp
    if pp > 1:  # the fuller of the first and the last stage
        embedding, head = (embedding, 0.0) if embedding >= head else (0.0, head)
    small = FULL_PRECISION * (p.router + p.norms)
    draft = p.mtp - p.mtp_experts
    return WeightBytes(
        embedding=embedding,
        head=head,
        attention=linear * (p.attention / tp + p.kv_projection / kv_split) / pp,
        replicated=(linear * (p.attention_replicated + p.indexer) + small) / pp,
        mlp=linear * (p.dense_mlp + p.shared_experts) / tp / pp,
        experts=expert * p.routed_experts / ranks / pp,
        mtp=linear * draft / tp + expert * p.mtp_experts / ranks if layout.mtp else 0.0,
        vision=0.0
        if layout.language_only
        else FULL_PRECISION * p.vision / (1 if layout.vision_data_parallel else tp),
        tables=0.0 if layout.tables_on_host else TABLE_BYTES * p.tables / tp,
    )


def weight_bytes_per_rank(arch: Architecture, checkpoint: Checkpoint, layout: Layout) -> float:
    """Weight bytes of the fullest rank: the sum of `items`."""
    return items(arch, checkpoint, layout).total


def checkpoint_bytes(arch: Architecture, checkpoint: Checkpoint) -> float:
    """Bytes of all weight files: as stated, else derived with the MTP layers and the vision tower."""
    if checkpoint.bytes is not None:
        return checkpoint.bytes
    return items(arch, checkpoint, Layout(mtp=True, tables_on_host=False)).total

"""All tables of a study, for any runs (`bench report --study`): subjects, results and limits.

Independent of `rocbench.study`, which replays published studies. Pure.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from rocbench import units
from rocbench.errors import ConfigError
from rocbench.judgement.slo import Limit
from rocbench.model.architecture import Architecture, from_config
from rocbench.physics import kv
from rocbench.report import effects, study_results, summary, tables
from rocbench.report.material import RunData, curves_of
from rocbench.report.plots import slug
from rocbench.report.table import Table

Json = Mapping[str, Any]


def build(runs: Sequence[RunData], limits: Sequence[Limit] = ()) -> list[Table]:
    """All tables of a study; tables without rows are left out."""
    curves = curves_of(runs)
    rows = [row for run in runs for row in run.rows]
    manifests = [run.manifest for run in runs]
    profiles = _profiles(manifests)
    study_tables = [
        _hardware(manifests),
        _software(runs),
        _architectures(profiles),
        _kv_cache(profiles),
        study_results.workloads(runs),
        *_configurations(runs),
        summary.best(curves),
        *study_results.by_workload(curves),
        *study_results.by_model(curves),
        *summary.loads(runs, curves, limits),
        study_results.reliability(curves),
        *(table for run in runs for table in effects.ablation(run)[1]),
        study_results.variability(curves),
        study_results.bounds(curves),
        summary.doubts(rows),
        study_results.limits(runs, rows),
    ]
    return [table for table in study_tables if table.rows]


# --- subjects


def _hardware(manifests: Sequence[Json]) -> Table:
    """GPUs and hosts."""
    rows: list[tuple[str, str]] = []
    for manifest in _distinct(manifests, "hardware"):
        node = manifest.get("hardware") or {}
        gpu = node.get("gpu") or {}
        rows += [("node", str(node.get("name", units.ABSENT))), *tables.gpu_facts(manifest).items()]
        if gpu:
            rows += [
                ("bandwidth between two GPUs", f"{gpu['link_bytes_per_s'] / 1e9:.0f} GB/s"),
                ("power limit per GPU", f"{gpu.get('power_w'):g} W"),
            ]
            rows += [
                (f"dense peak, {name}", f"{value / 1e12:,.0f} TFLOP/s")
                for name, value in gpu["flops"].items()
            ]
    for manifest in _distinct(manifests, "node"):
        host = (manifest.get("node") or {}).get("host") or {}
        names = {
            "cpu": "CPU",
            "cpus": "CPUs",
            "numa_nodes": "NUMA nodes",
            "numa_balancing": "NUMA balancing",
        }
        rows += [(label, str(host[name])) for name, label in names.items() if name in host]
        if "memory_bytes" in host:
            rows.append(("memory", units.size(host["memory_bytes"])))
    return Table("hardware", "Hardware", ("part", "value"), tuple(dict.fromkeys(rows)))


def _software(runs: Sequence[RunData]) -> Table:
    """Versions: of the server by model, of the host, of the client."""
    versions: dict[str, set[str]] = {}
    for row in (row for run in runs for row in run.rows):
        known = versions.setdefault(str(row.get("model")), set())
        if row.get("vllm_version"):
            known.add(str(row["vllm_version"]))
    rows = [(f"vLLM, {model}", ", ".join(sorted(known)) or units.ABSENT) for model, known in versions.items()]
    for run in runs:
        node = run.manifest.get("node") or {}
        rows += [(name, str(value)) for name, value in (node.get("rocm") or {}).items()]
        host = node.get("host") or {}
        rows += [(name, str(host[name])) for name in ("os", "kernel") if name in host]
        rows += [
            ("rocbench", str(run.manifest.get("rocbench"))),
            ("Python", str(node.get("python", units.ABSENT))),
        ]
    return Table("software", "Software", ("part", "version"), tuple(dict.fromkeys(rows)))


def _distinct(manifests: Sequence[Json], name: str) -> list[Json]:
    """The manifests that differ in one entry."""
    distinct: dict[str, Json] = {}
    for manifest in manifests:
        distinct.setdefault(repr(manifest.get(name)), manifest)
    return list(distinct.values())


def _profiles(manifests: Sequence[Json]) -> list[tuple[str, Json, Architecture]]:
    """Each model once, with the facts of its config.json; models with incomplete profiles are left out."""
    profiles: dict[str, tuple[str, Json, Architecture]] = {}
    for manifest in manifests:
        for name, profile in (manifest.get("profiles") or {}).items():
            with contextlib.suppress(ConfigError):
                profiles.setdefault(name, (name, profile, from_config(profile["config"])))
    return list(profiles.values())


def _architectures(profiles: Sequence[tuple[str, Json, Architecture]]) -> Table:
    """Dimensions of each model."""
    rows = tuple(
        (
            name,
            str(profile.get("hf_id")),
            arch.family.replace("_", " "),
            _billions(arch.total_params),
            _billions(arch.active_params),
            f"{arch.num_layers:,}",
            f"{arch.hidden_size:,}",
            f"{arch.num_heads:,}",
            "latent" if arch.mla else f"{arch.num_kv_heads:,}",
            f"{arch.head_dim:,}",
            f"{arch.num_experts} / {arch.experts_per_token}" if arch.moe else units.ABSENT,
            f"{arch.max_position_embeddings:,}" if arch.max_position_embeddings else units.ABSENT,
            str(profile.get("precision")),
        )
        for name, profile, arch in profiles
    )
    header = (
        "model",
        "checkpoint",
        "attention",
        "parameters",
        "active",
        "layers",
        "hidden",
        "heads",
        "KV heads",
        "head dim",
        "experts / token",
        "context",
        "precision",
    )
    notes = ("the parameter counts exclude the vision tower and multi-token prediction layers",)
    return Table("architectures", "Model architectures", header, rows, notes)


def _billions(count: float) -> str:
    return f"{count / 1e9:,.1f} B"


def _kv_cache(profiles: Sequence[tuple[str, Json, Architecture]]) -> Table:
    """KV cache that a token needs, by architecture."""
    rows = tuple(
        (
            name,
            "latent" if arch.mla else "keys and values",
            f"{kv.kv_bytes_per_token(arch, 2):,.0f}",
            f"{kv.kv_bytes_per_token(arch, 1):,.0f}",
            f"{kv.indexer_bytes_per_token(arch):,.0f}" if arch.indexer_layers else units.ABSENT,
        )
        for name, _, arch in profiles
    )
    header = (
        "model",
        "cached",
        "bytes per token, 16 bit",
        "bytes per token, 8 bit",
        "indexer, bytes per token",
    )
    notes = (
        "sizes are for the whole model and count each token once; with a latent cache, every tensor-parallel rank holds a full copy",
    )
    return Table("kv-cache", "KV cache by architecture", header, rows, notes)


def _configurations(runs: Sequence[RunData]) -> list[Table]:
    """Each server's flags with their origin and reason."""
    by_line: dict[str, Table] = {}
    for run in runs:
        for server, line, table in tables.commands(run.plan):
            named = replace(table, id=slug("configuration", server), title=f"Configuration {server}")
            by_line.setdefault(line, named)
    return list(by_line.values())

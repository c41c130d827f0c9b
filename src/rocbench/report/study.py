"""Every table that a study needs, of any runs (`bench report --study`): subjects, results and limits.

Independent of `rocbench.study`, which replays published studies. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rocbench import units
from rocbench.errors import ConfigError
from rocbench.judgement.slo import Limit
from rocbench.model.architecture import Architecture, from_config
from rocbench.physics import kv
from rocbench.report import effects, study_results, summary, tables
from rocbench.report.curves import curves
from rocbench.report.material import RunData
from rocbench.report.plots import slug
from rocbench.report.table import Table

Json = Mapping[str, Any]


def build(runs: Sequence[RunData], limits: Sequence[Limit] = ()) -> list[Table]:
    """All tables of a study; tables without rows are left out."""
    found = curves([(run.info, run.rows) for run in runs])
    rows = [row for run in runs for row in run.rows]
    manifests = [run.manifest for run in runs]
    words = ", ".join(map(str, limits))
    judged, words = (list(limits), words) if limits else summary.sweep_limits([run.plan for run in runs])
    made = [
        hardware(manifests),
        software(runs),
        architectures(manifests),
        kv_cache(manifests),
        study_results.workloads(runs),
        *configurations(runs),
        summary.best(found),
        *study_results.by_workload(found),
        *study_results.by_model(found),
        summary.saturation(found, summary.gain_of([run.plan for run in runs])),
        summary.capacity(found, judged, words),
        summary.searched([(run.info, run.rows, run.searches) for run in runs]),
        study_results.reliability(found),
        *ablations(runs),
        study_results.variability(found),
        study_results.bounds(found),
        summary.doubts(rows),
        study_results.limits(runs, rows),
    ]
    return [table for table in made if table.rows]


# --- subjects


def hardware(manifests: Sequence[Json]) -> Table:
    """GPUs and hosts."""
    rows: list[tuple[str, str]] = []
    for manifest in _unlike(manifests, "hardware"):
        node = manifest.get("hardware") or {}
        gpu = node.get("gpu") or {}
        rows.append(("node", str(node.get("name", units.ABSENT))))
        if gpu:
            rows += [
                ("GPUs", f"{node.get('gpus')} x {gpu.get('name')}"),
                ("architecture", str(gpu.get("gfx"))),
                ("HBM a GPU", units.size(gpu.get("hbm_bytes"))),
                ("HBM bandwidth a GPU", f"{gpu['hbm_bytes_per_s'] / 1e12:.2f} TB/s"),
                ("link to each other GPU", f"{gpu['link_bytes_per_s'] / 1e9:.0f} GB/s"),
                ("power limit a GPU", f"{gpu.get('power_w'):g} W"),
            ]
            rows += [
                (f"dense peak, {name}", f"{value / 1e12:,.0f} TFLOP/s")
                for name, value in gpu["flops"].items()
            ]
    for manifest in _unlike(manifests, "node"):
        host = (manifest.get("node") or {}).get("host") or {}
        names = {
            "cpu": "CPU",
            "cpus": "CPUs seen",
            "numa_nodes": "NUMA nodes",
            "numa_balancing": "NUMA balancing",
        }
        rows += [(label, str(host[name])) for name, label in names.items() if name in host]
        if "memory_bytes" in host:
            rows.append(("memory", units.size(host["memory_bytes"])))
    return Table("hardware", "Hardware", ("part", "value"), tuple(dict.fromkeys(rows)))


def software(runs: Sequence[RunData]) -> Table:
    """Versions: of the server by model, of the host, of the client."""
    rows: list[tuple[str, str]] = []
    for model in dict.fromkeys(str(row.get("model")) for run in runs for row in run.rows):
        there = {
            str(r["vllm_version"])
            for run in runs
            for r in run.rows
            if str(r.get("model")) == model and r.get("vllm_version")
        }
        rows.append((f"vLLM, {model}", ", ".join(sorted(there)) or units.ABSENT))
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


def _unlike(manifests: Sequence[Json], name: str) -> list[Json]:
    found: dict[str, Json] = {}
    for manifest in manifests:
        found.setdefault(repr(manifest.get(name)), manifest)
    return list(found.values())


def _profiles(manifests: Sequence[Json]) -> list[tuple[str, Json, Architecture]]:
    """Each model once, with the facts of its config.json; models with incomplete profiles are left out."""
    found: dict[str, tuple[str, Json, Architecture]] = {}
    for manifest in manifests:
        for name, profile in (manifest.get("profiles") or {}).items():
            try:
                found.setdefault(name, (name, profile, from_config(profile["config"])))
            except ConfigError:
                continue
    return list(found.values())


def architectures(manifests: Sequence[Json]) -> Table:
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
        for name, profile, arch in _profiles(manifests)
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
    notes = ("parameters of the language model, without vision tower and multi-token-prediction layers",)
    return Table("architectures", "Model architectures", header, rows, notes)


def _billions(count: float) -> str:
    return f"{count / 1e9:,.1f} B"


def kv_cache(manifests: Sequence[Json]) -> Table:
    """KV cache that a token needs, by architecture."""
    rows = tuple(
        (
            name,
            "latent" if arch.mla else "keys and values",
            f"{kv.kv_bytes_per_token(arch, 2):,.0f}",
            f"{kv.kv_bytes_per_token(arch, 1):,.0f}",
            f"{kv.indexer_bytes_per_token(arch):,.0f}" if arch.indexer_layers else units.ABSENT,
        )
        for name, _, arch in _profiles(manifests)
    )
    header = (
        "model",
        "what is cached",
        "bytes a token, 16 bit",
        "bytes a token, 8 bit",
        "indexer, bytes a token",
    )
    notes = ("whole model, nothing replicated; a latent cache is held by every tensor-parallel rank",)
    return Table("kv-cache", "KV cache by architecture", header, rows, notes)


def configurations(runs: Sequence[RunData]) -> list[Table]:
    """Each server's flags with their origin and reason."""
    found: dict[str, Table] = {}
    for run in runs:
        for server, line, table in tables.commands(run.plan):
            named = Table(
                slug("configuration", server),
                f"Configuration {server}",
                table.header,
                table.rows,
                table.notes,
            )
            found.setdefault(line, named)
    return [table for table in found.values() if table.rows]


def ablations(runs: Sequence[RunData]) -> list[Table]:
    """Effects and variability of each run with factors."""
    made = []
    for run in runs:
        factors = (run.plan.get("sweep") or {}).get("factors") or {}
        if factors:
            made += effects.ablation(run.cells, factors)[1]
    return made

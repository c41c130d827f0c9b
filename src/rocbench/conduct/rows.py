"""Stored form of a plan and of cells: rows, plan.json, manifest.json. Pure."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from itertools import pairwise
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from rocbench import __version__
from rocbench.conduct.bind import ClientOptions, profile_json
from rocbench.conduct.measure import Measured
from rocbench.errors import BenchError, InputError, LoadFault, RequestRefused
from rocbench.physics.roofline import Share
from rocbench.plan import shards
from rocbench.plan.estimate import shape_doubts
from rocbench.plan.expand import Cell, Group, Launch, Overrides, Plan, Run, Sources, expand
from rocbench.records import SCHEMA_VERSION
from rocbench.redact import cut, marked, marked_environment, masked, masked_argv, masked_entry, redacted
from rocbench.server.spec import RunningServer
from rocbench.settings.schema import Hardware, Load, ModelProfile, Sweep, SweepModel, Workload
from rocbench.tables import limits, metrics
from rocbench.variables import MORE, is_secret
from rocbench.verdict.evidence import Evidence
from rocbench.verdict.judge import judge

Columns = dict[str, Any]
"""A row under construction."""
MESSAGE_CHARS = 2000
"""Maximum length of a row's failure message."""


def tags(plan: Plan, launch: Launch, run: Run) -> Columns:
    """Columns that describe a cell before it is measured."""
    group, cell = launch.group, run.cell
    profile, workload, resolution = group.profile, cell.workload, group.resolution
    facts = resolution.facts if resolution else None
    return {
        "model": group.model,
        "model_revision": profile.revision if profile else None,
        "family": facts.family if facts else None,
        "precision": profile.precision if profile else None,
        "tp": facts.tp if facts else None,
        "gpus": gpus(group),
        "aiter": aiter_label(group),
        "axes": json.dumps(group.axes, default=str) if group.axes else None,
        "vllm_version": group.vllm,
        "hardware": group.hardware.name if group.hardware else None,
        "server_kind": plan.sweep.server.kind,
        "workload": workload.name,
        "isl": workload.isl.mean,
        "osl": workload.osl.mean,
        "images": workload.images.count if workload.images else 0,
        "concurrency": cell.level.concurrency,
        "request_rate": cell.level.rate,
        "load_shape": cell.load.shape.kind,
        "max_requests": cell.load.max_requests,
        "workload_spec": _json(_workload_spec(workload)),
        "load_spec": _json(_load_spec(cell.load)),
        "slo": _json(slo) if (slo := plan.sweep.slo.model_dump(exclude_none=True)) else None,
        "key": cell.key,
        "serve_args": _json({e.name: masked_entry(e.name, e.value) for e in resolution.args})
        if resolution
        else None,
        "serve_env": _json(marked_environment(resolution.environment())) if resolution else None,
        "restart": "per_repeat" if plan.sweep.factors else plan.sweep.restart,
        "discarded": run.discarded,
        "until_max": plan.sweep.until.max if plan.sweep.until else None,
        "accuracy_labels": (";".join(resolution.accuracy_labels) or None) if resolution else None,
        "forced_rules": resolution.forced if resolution else None,
        "imported": False,
    }


def _workload_spec(workload: Workload) -> Columns:
    """Properties of a request in addition to the columns `isl`, `osl` and `images`, without defaults."""
    in_columns: Columns = {"name": True, "note": True, "isl": {"mean"}, "osl": {"mean"}, "images": {"count"}}
    dumped = workload.model_dump(mode="json", exclude_defaults=True, exclude=in_columns)
    return {name: value for name, value in dumped.items() if value != {}}


def _load_spec(load: Load) -> Columns:
    """Properties of the load without defaults, and without durations: they do not change a figure's meaning."""
    bounds = load.model_dump(
        mode="json", exclude_defaults=True, include={"wave", "max_requests", "max_requests_per_user"}
    )
    return load.shape.model_dump(mode="json", exclude_defaults=True, exclude={"kind"}) | bounds


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, default=str)


def gpus(group: Group) -> int | None:
    """Number of GPUs that a group's server uses; None if unknown, and on a CPU."""
    if group.resolution is None or group.hardware is None or group.hardware.gpu is None:
        return None
    return group.resolution.facts.gpus_needed


def aiter_label(group: Group) -> str | None:
    """`on`, `off`, or `on,moe=off`: the main switch, and the user's settings of its parts."""
    if group.resolution is None or group.resolution.facts.platform != "rocm":
        return None
    if not group.resolution.facts.aiter:
        return "off"
    prefix = "VLLM_ROCM_USE_AITER_"
    parts = [
        f"{entry.name.removeprefix(prefix).lower()}={'on' if str(entry.value).lower() in ('1', 'true') else 'off'}"
        for entry in group.resolution.env
        if entry.name.startswith(prefix) and entry.provenance == "user"
    ]
    return ",".join(["on", *parts])


def columns(plan: Plan, launch: Launch, run: Run, running: RunningServer, measured: Measured) -> Columns:
    """The row of a measured cell, with its verdict."""
    server = {
        "simulated": running.simulated or bool(measured.columns.get("simulated")),
        "server_id": running.spec.folder.name,
    }
    if running.version:
        server["vllm_version"] = running.version
    return judged(plan, launch, run, measured, server)


def judged(plan: Plan, launch: Launch, run: Run, measured: Measured, server: Mapping[str, Any]) -> Columns:
    """The row of a cell's load, with its verdict. `server`: columns that describe the server."""
    cell = run.cell
    row = tags(plan, launch, run)
    slo = plan.sweep.slo.model_dump(exclude_none=True)
    row |= metrics.summarise(measured.result, gpus=row["gpus"], slo=slo or None)
    row |= measured.columns
    row |= server
    start_ns = measured.result.window.start_ns
    if start_ns > 0:
        at = datetime.datetime.fromtimestamp(start_ns / 1e9, datetime.UTC)
        row["started_at"] = at.isoformat(timespec="milliseconds")
    row |= physics_columns(cell, row)
    row |= dict.fromkeys(measured.doubted & row.keys())
    share = None
    if row.get("simulated") and plan.sweep.simulation.speed > 1:  # faster than the hardware on purpose
        row |= {"roofline_output_throughput": None, "roofline_share": None}
    else:
        share = _share(launch.group, row)
    if share is not None and share.value > 1:
        row["limit"] = share.what
    if launch.group.profile is not None:
        row["shape_doubts"] = "; ".join(shape_doubts(launch.group.profile, launch.group.hardware)) or None
    evidence = Evidence.from_row(
        row,
        **({"roofline_share": share.value} if share is not None else {}),
        platform=launch.group.hardware.platform if launch.group.hardware else None,
        ignore_eos=cell.workload.ignore_eos,
        dataset=cell.workload.dataset is not None,
        prefix_caching=measured.prefix_caching,
        prefix_cache_hits_expected=measured.expected_hits,
    )
    outcome = judge(evidence)
    row["valid"] = outcome.valid
    row["reasons"] = ";".join(outcome.reasons)
    row["unknown_checks"] = ";".join(outcome.unknown) or None
    return row


def _share(group: Group, row: Columns) -> Share | None:
    """The largest share of a physical limit that the row's figures reach; None if no limit is known."""
    if group.profile is None or group.hardware is None or group.resolution is None:
        return None
    return limits.share(group.profile, group.hardware, group.resolution.flags(), row)


def physics_columns(cell: Cell, row: Mapping[str, Any]) -> Columns:
    """Physical limits; the KV capacity that the server reports replaces the estimate."""
    estimate = cell.estimate
    bound = estimate.roofline_output_throughput
    output = row.get("output_throughput")
    return {
        "kv_capacity_tokens": row.get("kv_capacity_tokens") or estimate.kv_capacity_tokens,
        "roofline_output_throughput": bound,
        "roofline_share": output / bound if bound and output is not None else None,
    }


def failed_columns(
    plan: Plan, launch: Launch, run: Run, server: str, error: BenchError, secrets: Iterable[str] = ()
) -> Columns:
    """The row of a cell that was not measured, because its server or load failed or refused it."""
    row = tags(plan, launch, run)
    by_load = isinstance(error, LoadFault)
    failed = "" if isinstance(error, RequestRefused) else "load_failed" if by_load else "server_failed"
    codes = [failed, getattr(error, "code", ""), "forced_rules" if row["forced_rules"] else ""]
    return row | {
        "simulated": plan.sweep.server.kind == "simulated",
        "server_id": server,
        "valid": False,
        "reasons": ";".join(code for code in codes if code),
        "failure_message": cut(error.text(), MESSAGE_CHARS, secrets),
    }


def plan_json(plan: Plan, overrides: Overrides, shard: str | None) -> dict[str, Any]:
    """The plan as stored on disk; `stored` reads its sources back."""
    sweep = masked(plan.sweep.model_dump(mode="json"))
    sweep["server"]["headers"] = dict(plan.sweep.server.headers)  # names of variables, never their values
    return {
        "schema_version": SCHEMA_VERSION,
        "sweep": sweep,
        "overrides": masked(asdict(overrides)),
        "shard": shard,
        "estimate_s": plan.estimate_s,
        "servers": [_group_json(group) for group in plan.groups],
        "launches": [
            {
                "server": launch.group.server_id,
                "runs": [
                    {"cell_id": run.cell.cell_id, "repeat": run.repeat, "discarded": run.discarded}
                    for run in launch.runs
                ],
            }
            for launch in plan.launches
        ],
        "skipped": [{"cell": skip.key, "reason": skip.reason} for skip in plan.skipped],
    }


def _group_json(group: Group) -> dict[str, Any]:
    resolution = group.resolution
    return {
        "server_id": group.server_id,
        "model": group.model,
        "vllm": group.vllm,
        "hardware": group.hardware.name if group.hardware else None,
        "axes": group.axes,
        "argv": masked_argv(["vllm", "serve", *resolution.argv()]) if resolution else None,
        "env": marked_environment(resolution.environment()) if resolution else None,
        "provenance": [
            {
                "name": e.name,
                "value": masked_entry(e.name, e.value),
                "by": e.provenance,
                "rule": e.rule,
                "why": e.why,
                "source": e.source,
            }
            for e in (*resolution.args, *resolution.env)
        ]
        if resolution
        else None,
        "warnings": [finding.text() for finding in resolution.warnings] if resolution else [],
        "cells": [_cell_json(cell) for cell in group.cells],
    }


def _cell_json(cell: Cell) -> dict[str, Any]:
    return {
        "cell_id": cell.cell_id,
        "key": cell.key,
        "workload": cell.workload.model_dump(mode="json"),
        "concurrency": cell.level.concurrency,
        "rate": cell.level.rate,
        "estimate": {
            "kv_capacity_tokens": cell.estimate.kv_capacity_tokens,
            "users_that_fit": cell.estimate.users_that_fit,
            "roofline_output_throughput": cell.estimate.roofline_output_throughput,
            "duration_s": cell.estimate.duration_s,
        },
    }


def manifest(plan: Plan, run_id: str, at: str, node: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that affects a result, except the plan. `node`: its description by `probe.environment`."""
    return {
        "schema_version": SCHEMA_VERSION,
        "run_id": run_id,
        "begun_at": at,
        "rocbench": __version__,
        "sweep": plan.sweep.name,
        "simulated": plan.sweep.server.kind == "simulated",
        "node": dict(node),
        "profiles": {name: profile_json(p) for name, p in plan.sources.models.items()},
        "workloads": {name: w.model_dump(mode="json") for name, w in plan.sources.workloads.items()},
        "hardware": plan.sources.hardware.model_dump(mode="json") if plan.sources.hardware else None,
    }


def public_names(plan: Plan) -> list[str]:
    """Names of models and workloads and the server's address: their words are not treated as secrets."""
    server = plan.sweep.server
    names = [*plan.sources.models, *plan.sources.workloads, *plan.sweep.workloads, plan.sweep.name]
    names += [profile.hf_id for profile in plan.sources.models.values()]
    for group in plan.groups:
        names += [group.model, group.image(plan.sweep) or ""]
        if group.resolution:
            argv, levels = group.resolution.argv(), [str(value) for value in group.axes.values()]
            served = [word for flag, word in pairwise(argv) if flag == "--served-model-name"]
            names += [argv[0], *(name for name in served if name not in levels)]  # an axis may hold a secret
    names += [entry.path for entry in plan.sweep.models if isinstance(entry, SweepModel) and entry.path]
    return [*names, redacted(server.base_url or ""), *(server.command or ())[:1]]


def unlike(plan_: Mapping[str, Any]) -> tuple[str, str] | None:
    """Reason and fix if a stored plan holds values that are masked now, which changes its cells."""
    environments = [(server.get("env") or {}).items() for server in plan_.get("servers") or ()]
    names = dict.fromkeys(name for env in environments for name, value in env if marked(name, value) != value)
    if not names:
        return None
    fix = f"if these values are not secret, export {MORE}={','.join(names)}"
    if any(is_secret(name) for name in names):
        fix = "finish the run with the rocbench version that started it"
    return (
        f"this version of rocbench masks {', '.join(names)} as secret, but plan.json contains the unmasked value",
        fix,
    )


Options = TypeVar("Options", Overrides, ClientOptions)
_NO_PLAN = (AttributeError, KeyError, TypeError, ValueError)


def _checked(kind: type[Options], content: Any) -> Options:
    """A file's content as a `kind`, with the type of each value checked. Raises one of _NO_PLAN."""
    return TypeAdapter(kind).validate_python(asdict(kind(**content)))


def _first_line(error: Exception) -> str:
    """The error in one line, with the place if known."""
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return ": ".join((".".join(map(str, first["loc"])), first["msg"]))[:200]
    return str(error).partition("\n")[0]


def client(plan_: Mapping[str, Any]) -> ClientOptions:
    """The client's options in plan.json.

    Raises:
        InputError: the options are not valid in this version of bench.
    """
    try:
        return _checked(ClientOptions, plan_.get("client") or {})
    except _NO_PLAN as error:
        raise InputError(
            f"`client` in plan.json is not valid: {_first_line(error)}", fix="restore the file from a copy"
        ) from None


def _without_former_keys(hardware: Any) -> Any:
    """Hardware of a manifest without `idle_power_w`, a key of earlier versions that never had an effect."""
    match hardware:
        case {"gpu": {"idle_power_w": _, **gpu}, **rest}:
            return {**rest, "gpu": gpu}
    return hardware


def stored(plan_: Mapping[str, Any], manifest_: Mapping[str, Any]) -> Plan:
    """The plan of a run folder, expanded again from its sources: the same cells with the same ids.

    Raises:
        InputError: the files are not a plan and a manifest of this version of bench.
    """
    try:
        hardware = _without_former_keys(manifest_["hardware"])
        sources = Sources(
            {name: ModelProfile.model_validate(p) for name, p in manifest_["profiles"].items()},
            {name: Workload.model_validate(w) for name, w in manifest_["workloads"].items()},
            Hardware.model_validate(hardware) if hardware else None,
        )
        sweep, overrides = Sweep.model_validate(plan_["sweep"]), _checked(Overrides, plan_["overrides"])
        named = {*sweep.workloads, *(n for m in sweep.models for n in getattr(m, "workloads", None) or ())}
        if missing := sorted(named - sources.workloads.keys()):
            raise ValueError(f"workload {missing[0]} is missing")
    except _NO_PLAN as error:
        raise InputError(
            f"plan.json and manifest.json are not a valid plan: {_first_line(error)}",
            fix=f"restore both files from a copy, or use rocbench {manifest_.get('rocbench')} if that version wrote them",
        ) from None
    plan = expand(sweep, sources, overrides)
    return shards.shard(plan, *shards.parse(plan_["shard"])) if plan_.get("shard") else plan

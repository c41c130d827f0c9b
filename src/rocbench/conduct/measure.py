"""Measurement of one cell on a running server: start all monitors, drive the load, read all monitors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa

from rocbench import load
from rocbench.conduct import bind
from rocbench.conduct.bind import ClientOptions
from rocbench.errors import RequestRefused
from rocbench.fleet.load import hosts as load_hosts
from rocbench.load import calibrate
from rocbench.load.cpus import kept_off
from rocbench.load.spec import Progress
from rocbench.plan.expand import Group, Run
from rocbench.probe import counters, gpu, logwatch, scrape
from rocbench.probe.cpuwait import CpuWait
from rocbench.probe.health import HealthWatch
from rocbench.records import GpuSample, LoadResult, ServerSample, Window
from rocbench.redact import redacted
from rocbench.report.live import Screen
from rocbench.server import RunningServer, changes, proof
from rocbench.settings.schema import Sweep
from rocbench.store.folder import RunFolder
from rocbench.tables import agreement, power
from rocbench.tables.parts import Identity, parts_of


@dataclass(slots=True)
class Session:
    """A running server with its verified settings and the telemetry of its GPUs."""

    group: Group
    running: RunningServer
    sweep: Sweep
    proved: proof.Proof
    telemetry: gpu.Telemetry
    secrets: tuple[str, ...] = ()
    """Values to mask in the server's output."""
    notes: list[str] = field(default_factory=list)
    first_answers: changes.ServerIdentity = field(default_factory=changes.ServerIdentity)
    """The identity that the server reported at the start of the session."""
    measured: bool = False
    """True if a cell was measured on the server."""
    previous: Sequence[ServerSample] = ()
    """Readings of the previous cell: they show if several servers answer in turn."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One cell as measured, not yet judged."""

    result: LoadResult
    columns: dict[str, Any]
    """Columns of `cells` that come from the server, the node and the proof."""
    prefix_caching: bool | None
    expected_hits: float
    server: tuple[ServerSample, ...]
    gpus: tuple[GpuSample, ...]
    doubted: frozenset[str] = frozenset()
    """Columns for which the server contradicts itself: they stay empty, without an estimate."""

    def parts(self, identity: Identity) -> dict[str, pa.Table]:
        """The tables of the cell."""
        return parts_of(identity, self.result, self.server, self.gpus)


@contextmanager
def session(group: Group, running: RunningServer, sweep: Sweep, folder: RunFolder) -> Iterator[Session]:
    """Verify the server's settings once, store the proof next to its log, and read its GPUs while it runs."""
    expected = group.resolution.expected() if group.resolution else {}
    proved = proof.prove(running, expected)
    folder.write_json(f"servers/{running.spec.folder.name}/resolved.json", proved.as_json())
    with ExitStack() as stack:
        spec, url = running.spec, running.base_url
        telemetry = stack.enter_context(
            gpu.telemetry(spec.kind, url, spec.gpus, running.processes, group.hardware)
        )
        notes = [*running.notes, *telemetry.new_notes()]
        notes += [f"the server differs from its plan: {difference}" for difference in proved.mismatches]
        notes += [f"the server contradicts itself: {name}: {why}" for name, why in proved.doubts.items()]
        answers = changes.ask(running, folder.secrets)
        yield Session(group, running, sweep, proved, telemetry, folder.secrets, notes, answers)


def cell(session_: Session, run: Run, run_id: str, client: ClientOptions, screen: Screen) -> Measured:
    """Drive one cell's load, and read all monitors."""
    running = session_.running
    reset = proof.reset_prefix_cache(running)
    spec = bind.load_spec(session_.group, session_.sweep, run, running, run_id, client)
    spec = replace(spec, secrets=session_.secrets)
    scraper = scrape.Scraper(running.base_url, running.headers, running.spec.insecure)
    log = logwatch.LogWatch(running.log_path)
    cpus = CpuWait(running.processes)
    with (
        kept_off({member.pid for member in running.processes()}),
        _health_watch(running) as health,
        scraper,
        log,
        cpus,
    ):
        before = scraper.read_now()

        def tell(progress: Progress) -> None:
            health.answered(progress.completed + progress.output_tokens)
            cpus.enter(progress.phase)
            screen.load(progress)
            if scraper.samples:
                screen.readings(_shown(scraper.samples[-1], session_.telemetry.samples))

        with load_hosts(client.load_hosts, client.ray_address, running.base_url) as agents:
            result = load.drive(spec, tell, health.stop, agents)
        result.notes = tuple(redacted(note, spec.secrets) for note in result.notes)
        cpus.enter("end")
        after = scraper.read_settled()
    if ended_by := how_it_ended(result.window.ended_by, health):
        result.window = replace(result.window, ended_by=ended_by)
    start_ns, end_ns = result.window.start_ns, result.window.end_ns
    gpus = tuple(session_.telemetry.between(start_ns, end_ns))
    for note in session_.telemetry.new_notes():
        screen.note(note)
    columns = {
        **_read_out(result.window, scraper, log, (before, after)),
        **agreement.matched(result.requests, _comparable(scraper), result.window),
        **health.view(start_ns, end_ns),
        **cpus.view(),
        **_of_gpus(session_.telemetry, gpus, result),
        **proved_columns(session_.proved),
        **_sameness(session_, scraper, result.window.ended_by, died=health.died),
        **ceiling_columns(len(result.workers)),
        "simulated": running.simulated or _says_simulated(scraper.samples),
        "prefix_cache_reset": reset,
    }
    return Measured(
        result=result,
        columns=columns,
        prefix_caching=session_.proved.found.get("prefix_caching"),
        expected_hits=bind.expected_hits(run.cell.workload, result),
        server=tuple(scraper.samples),
        gpus=gpus,
        doubted=frozenset(session_.proved.doubts.keys() - session_.proved.found.keys()),
    )


def _health_watch(running: RunningServer) -> HealthWatch:
    return HealthWatch(
        running.base_url,
        running.headers,
        running.spec.insecure,
        exit_code=running.exit_code,
        path=running.health_path,
    )


def _of_gpus(telemetry: gpu.Telemetry, samples: Sequence[GpuSample], result: LoadResult) -> dict[str, Any]:
    """Power of the GPUs in the window, and their use by other processes."""
    start_ns, end_ns = result.window.start_ns, result.window.end_ns
    return {
        **power.window_columns(samples, start_ns, end_ns, result.output_tokens_in_window),
        **telemetry.power_columns(),
        "gpu_shared": telemetry.shared(start_ns, end_ns),
    }


def _comparable(scraper: scrape.Scraper) -> list[ServerSample]:
    """The server's readings; empty if they may be of several processes."""
    return scraper.samples if counters.of_one_process(scraper.samples) else []


def _read_out(
    window: Window,
    scraper: scrape.Scraper,
    log: logwatch.LogWatch,
    edges: tuple[ServerSample | None, ServerSample | None],
) -> dict[str, Any]:
    """Columns from the server's metrics and log, of the window and of the whole load (between the edges)."""
    return {
        **scrape.window_view(scraper.samples, window.start_ns, window.end_ns),
        **scrape.load_view(*(edges if _comparable(scraper) else (None, None))),
        "server_answer_ms": scraper.fastest_ms,
        **scraper.view(),
        **log.view(window.start_ns, window.end_ns),
    }


def _sameness(session_: Session, scraper: scrape.Scraper, ended_by: str, *, died: bool) -> dict[str, Any]:
    """Columns of `cells` that show if the cell had the same server from beginning to end.

    bench watches the process of a server that it started; it knows another's only by the server's answers.
    """
    answering = ended_by not in {"interrupted", "server_unresponsive", "server_died"}
    now = changes.ask(session_.running, session_.secrets) if answering else changes.ServerIdentity()
    evidence = _changes(session_, scraper.samples, now)
    attached = session_.running.spec.kind == "attached"
    restarted = counters.restarted(scraper.samples) if attached else False
    fallen = counters.fallen(scraper.samples)
    session_.previous, session_.measured = scraper.samples, True
    return {
        "server_restarted": True if died or evidence else restarted,
        "server_changes": "; ".join(evidence) or None,
        "counters_fell": None if fallen is None else ";".join(fallen),
    }


def replaced(session_: Session) -> str:
    """Evidence that an attached server was replaced since the previous cell; empty without any."""
    if session_.running.spec.kind != "attached" or not session_.measured:
        return ""
    running = session_.running
    reading = scrape.Scraper(running.base_url, running.headers, running.spec.insecure).read_now()
    now = changes.ask(running, session_.secrets)
    return "; ".join(_changes(session_, [reading] if reading else [], now))


def _changes(session_: Session, samples: Sequence[ServerSample], now: changes.ServerIdentity) -> list[str]:
    """Evidence, as text, that another server answers now."""
    evidence = changes.differences(session_.first_answers, now)
    if counters.restarted([*session_.previous, *samples]):
        evidence.append("the server's process restarted, according to its metrics")
    return evidence


def check_length(running: RunningServer, run: Run) -> None:
    """Refuse, before any load, a cell whose requests are too long for the server.

    Raises:
        RequestRefused: prompt plus answer exceed the max_model_len in /v1/models.
    """
    limit, workload = running.max_model_len, run.cell.workload
    if limit is None or workload.dataset is not None or run.cell.load.shape.kind == "trace":
        return  # a file has its own length for each request
    isl, osl = (length.high or length.mean for length in (workload.isl, workload.osl))
    if isl + osl > limit:
        raise RequestRefused(
            f"{run.cell.key}: ISL + OSL = {isl} + {osl} tokens exceed the server's max_model_len of {limit}",
            fix=f"reduce their sum to {limit}, or start the server with a larger --max-model-len",
        )


def how_it_ended(ended_by: str, health: HealthWatch) -> str:
    """`server_died` or `server_unresponsive` if that ended the load; else empty.

    A server died only if its process was seen to have ended.
    """
    if health.died and ended_by in {"interrupted", "server_unresponsive"}:
        return "server_died"
    return "server_unresponsive" if health.unresponsive and ended_by == "interrupted" else ""


def ceiling_columns(workers: int) -> dict[str, Any]:
    """Calibrated limits of this machine with this many workers; empty before `bench calibrate`."""
    ceiling = calibrate.load()
    if ceiling is None:
        return {}
    return {
        "calibrated_tokens_per_s": ceiling.worker_tokens_per_s * workers,
        "calibrated_users": ceiling.worker_users * workers,
    }


def proved_columns(proved: proof.Proof) -> dict[str, Any]:
    """Columns of `cells` with the settings that the server was found to have."""
    names = ("kv_capacity_tokens", "block_size", "kv_cache_dtype", "weights_gib_per_rank")
    return {
        "plan_differences": proved.differences,
        "attention_backend": proved.found.get("backend"),
        "model_runner": proved.found.get("runner"),
    } | {name: proved.found.get(name) for name in names}


def _says_simulated(samples: Sequence[ServerSample]) -> bool:
    """True if a server's metrics show that it is simulated, even if others started it or it died."""
    return any(name.startswith("sim_") for sample in samples for name in sample.values)


def _shown(sample: ServerSample, gpus: Sequence[GpuSample]) -> dict[str, float]:
    """Readings of the server and its GPUs for the live view."""
    names = {
        "num_requests_running": "running",
        "num_requests_waiting": "waiting",
        "kv_cache_usage_perc": "KV",
    }
    facts = {short: sample.values[name] for name, short in names.items() if name in sample.values}
    latest = {reading.gpu: reading.power_w for reading in gpus[-64:]}
    watts = [power_w for power_w in latest.values() if power_w is not None]
    return facts | ({"power": sum(watts)} if watts else {})

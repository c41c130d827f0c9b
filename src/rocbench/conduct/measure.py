"""One cell on a running server: start all monitors, drive the load, read all monitors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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
from rocbench.probe import counters, cpu, gpu, logwatch, scrape
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
    told: changes.Told = field(default_factory=changes.Told)
    """The server's description of itself when it was reached."""
    held: bool = False
    """True if a cell was measured on the server."""
    seen: Sequence[ServerSample] = ()
    """Readings of the previous cell: they reveal several servers that answer in turn."""


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
    """Columns for which the server contradicts itself: no estimate replaces them."""

    def parts(self, identity: Identity) -> dict[str, pa.Table]:
        """The tables to write to disk."""
        return parts_of(identity, self.result, self.server, self.gpus)


@contextmanager
def session(group: Group, running: RunningServer, sweep: Sweep, folder: RunFolder) -> Iterator[Session]:
    """Prove the server once, store the proof next to its log, and watch its GPUs while it runs."""
    expected = group.resolution.expected() if group.resolution else {}
    proved = proof.prove(running, expected)
    folder.write_json(f"servers/{running.spec.folder.name}/resolved.json", proved.as_json())
    with ExitStack() as stack:
        spec, url = running.spec, running.base_url
        telemetry = stack.enter_context(
            gpu.telemetry(spec.kind, url, spec.gpus, running.processes, group.hardware)
        )
        notes = [*running.notes, *telemetry.news()]
        notes += [f"the server differs from its plan: {difference}" for difference in proved.mismatches]
        notes += [f"the server contradicts itself: {name}: {why}" for name, why in proved.doubts.items()]
        told = changes.ask(running, folder.secrets)
        yield Session(group, running, sweep, proved, telemetry, folder.secrets, notes, told)


def cell(session_: Session, run: Run, run_id: str, client: ClientOptions, screen: Screen) -> Measured:
    """Drive one cell's load, and read all monitors."""
    running = session_.running
    reset = proof.reset_prefix_cache(running)
    spec = bind.load_spec(session_.group, session_.sweep, run, running, run_id, client)
    spec = replace(spec, secrets=session_.secrets)
    scraper = scrape.Scraper(running.base_url, running.headers, running.spec.insecure)
    log = logwatch.LogWatch(running.log_path)
    waits = CpuWait(running.processes)
    edges = _Edges(running, waits)
    with (
        kept_off({member.pid for member in running.processes()}),
        _health_watch(running) as health,
        scraper,
        log,
        waits,
    ):
        before = scraper.read_now()

        def tell(progress: Progress) -> None:
            health.answered(progress.completed + progress.output_tokens)
            edges.seen(progress.phase)
            screen.load(progress)
            if scraper.samples:
                screen.readings(_shown(scraper.samples[-1], session_.telemetry.samples))

        with load_hosts(client.load_hosts, client.ray_address, running.base_url) as agents:
            result = load.drive(spec, tell, health.stop, agents)
        result.notes = tuple(redacted(note, spec.secrets) for note in result.notes)
        edges.seen("end")
        after = scraper.read_settled()
    if ended_by := how_it_ended(result.window.ended_by, health):
        result.window = replace(result.window, ended_by=ended_by)
    start_ns, end_ns = result.window.start_ns, result.window.end_ns
    gpus = tuple(session_.telemetry.between(start_ns, end_ns))
    for note in session_.telemetry.news():
        screen.note(note)
    columns = {
        **_read_out(result.window, scraper, log, (before, after)),
        **agreement.matched(result.requests, _comparable(scraper), result.window),
        **health.view(start_ns, end_ns),
        **edges.view(),
        **waits.view(),
        **_of_gpus(session_.telemetry, gpus, result),
        **proved_columns(session_.proved),
        **_sameness(session_, scraper, result.window.ended_by, died=bool(health.died)),
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
    """The GPUs' power in the window, and the use of them by others."""
    start_ns, end_ns = result.window.start_ns, result.window.end_ns
    return {
        **power.window_columns(samples, start_ns, end_ns, result.output_tokens_in_window),
        **telemetry.power_columns(),
        "gpu_shared": telemetry.shared(start_ns, end_ns),
    }


def _comparable(scraper: scrape.Scraper) -> list[ServerSample]:
    """The server's readings, if one process counted them all."""
    return scraper.samples if counters.of_one_process(scraper.samples) else []


def _read_out(
    window: Window,
    scraper: scrape.Scraper,
    log: logwatch.LogWatch,
    edges: tuple[ServerSample | None, ServerSample | None],
) -> dict[str, Any]:
    """Columns of the window from the server's metrics and log; of the whole load, from the edge readings."""
    return {
        **scrape.window_view(scraper.samples, window.start_ns, window.end_ns),
        **scrape.load_view(*(edges if _comparable(scraper) else (None, None))),
        "server_answer_ms": scraper.fastest_ms,
        **scraper.view(),
        **log.view(window.start_ns, window.end_ns),
    }


def _sameness(session_: Session, scraper: scrape.Scraper, ended_by: str, *, died: bool) -> dict[str, Any]:
    """Columns on whether the session's server is still the same; the readings are kept for the next cell."""
    answers = ended_by not in {"interrupted", "server_unresponsive", "server_died"}
    now = changes.ask(session_.running, session_.secrets) if answers else changes.Told()
    columns = sameness_columns(session_, scraper.samples, now, died=died)
    session_.seen, session_.held = scraper.samples, True
    return columns


def replaced(session_: Session) -> str:
    """Evidence that an attached server was replaced since the previous cell; empty if there is none."""
    if session_.running.spec.kind != "attached" or not session_.held:
        return ""
    running = session_.running
    reading = scrape.Scraper(running.base_url, running.headers, running.spec.insecure).read_now()
    now = changes.ask(running, session_.secrets)
    return "; ".join(_changes(session_, [reading] if reading else [], now))


def sameness_columns(
    session_: Session, samples: Sequence[ServerSample], now: changes.Told, *, died: bool
) -> dict[str, Any]:
    """Columns of `cells` on whether the cell had the same server from beginning to end.

    bench watches its own process; it knows another's only by the server's answers.
    """
    found = _changes(session_, samples, now)
    restarted = counters.restarted(samples)
    if died or found:
        restarted = True
    elif session_.running.spec.kind != "attached":
        restarted = False
    fell = counters.fallen(samples)
    return {
        "server_restarted": restarted,
        "server_changes": "; ".join(found) or None,
        "counters_fell": None if fell is None else ";".join(fell),
    }


def _changes(session_: Session, samples: Sequence[ServerSample], now: changes.Told) -> list[str]:
    """Evidence, in words, that another server answers than before."""
    found = changes.differences(session_.told, now)
    if counters.restarted([*session_.seen, *samples]):
        found.append("its process began anew, by its metrics")
    return found


def check_length(running: RunningServer, run: Run) -> None:
    """Refuse, before any load, a cell whose requests are longer than the server takes.

    Raises:
        RequestRefused: its prompt and answer together exceed the max_model_len of /v1/models.
    """
    limit, workload = running.max_model_len, run.cell.workload
    if limit is None or workload.dataset is not None or run.cell.load.shape.kind == "trace":
        return  # the lengths in files are known for each request
    isl, osl = (length.high or length.mean for length in (workload.isl, workload.osl))
    if isl + osl > limit:
        raise RequestRefused(
            f"{run.cell.key}: ISL + OSL = {isl} + {osl} tokens, and the server's max_model_len is {limit}",
            fix=f"shorten them to {limit} together, or start the server with a longer --max-model-len",
        )


def how_it_ended(ended_by: str, health: HealthWatch) -> str:
    """Cause that ended a load if the server died or stopped answering; else empty.

    The server died only if its process was seen to have ended.
    """
    if health.died and ended_by in {"interrupted", "server_unresponsive"}:
        return "server_died"
    return "server_unresponsive" if health.unresponsive and ended_by == "interrupted" else ""


def ceiling_columns(workers: int) -> dict[str, Any]:
    """This machine's calibrated limit for this many workers; empty if `bench calibrate` has not run."""
    found = calibrate.load()
    if found is None:
        return {}
    return {
        "calibrated_tokens_per_s": found.worker_tokens_per_s * workers,
        "calibrated_users": found.worker_users * workers,
    }


def proved_columns(proved: proof.Proof) -> dict[str, Any]:
    """The result of the proof after start, as columns of `cells`."""
    return {
        "plan_differences": proved.differences,
        "kv_capacity_tokens": proved.found.get("kv_capacity_tokens"),
        "attention_backend": proved.found.get("backend"),
        "block_size": proved.found.get("block_size"),
        "kv_cache_dtype": proved.found.get("kv_cache_dtype"),
        "weights_gib_per_rank": proved.found.get("weights_gib_per_rank"),
    }


@dataclass(slots=True)
class _Edges:
    """CPU readings of the server's processes at the edges of the measured window."""

    running: RunningServer
    waits: CpuWait
    first: cpu.CpuReading | None = None
    last: cpu.CpuReading | None = None

    def seen(self, phase: str) -> None:
        """Take a reading at the first progress of the window and at the first after it."""
        if phase == "measure" and self.first is None:
            members = self.running.processes()
            self.first = cpu.read_cpu(members)
            self.waits.begin(members)
        elif phase != "measure" and self.first is not None and self.last is None:
            members = self.running.processes()
            self.last = cpu.read_cpu(members)
            self.waits.end(members)

    def view(self) -> Mapping[str, Any]:
        """Columns of `cells`."""
        if self.first is None or self.last is None:
            return {}
        return cpu.view(self.first, self.last)


def _says_simulated(samples: Sequence[ServerSample]) -> bool:
    """Return whether a server's metrics say that it is simulated, even if others started it or it died."""
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

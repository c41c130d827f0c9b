"""The capacity of this machine as a load client: the most tokens/s and users with accurate stamps in one worker.

The reference server runs next to one worker. The levels grow until one is no longer accurate: ITL p99 off by
more than 0.5 ms, TTFT p50 by 5 ms or p99 by 10 ms, concurrency by 2 %, more than 1 % of reads with several
events, or the worker busy (running, or waiting for a CPU) more than 90 % of the time. If the reference
server can no longer keep its schedule, the ceiling is at least the last accurate level, and `limited_by` is
`server`.
"""

from __future__ import annotations

import json
import os
import platform
import re
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from rocbench.errors import Interrupted
from rocbench.load.cpus import usable
from rocbench.load.serverrecord import ServerRecord, serving
from rocbench.load.spec import Closed, Lengths, LoadSpec, RequestPlan, Target, WindowPlan
from rocbench.records import FloatArray, LoadResult, Phase

VERSION = 1
RATES = ((250, 50), (500, 50), (1000, 50), (1500, 50), (1000, 25), (1500, 25), (2000, 25), (2000, 20))
"""(users, step in ms) of levels with growing tokens/s."""
CROWDS = ((2000, 200), (4000, 400), (6000, 600), (10_000, 1000))
"""(users, step in ms) of levels with growing users at about 10,000 tokens/s."""
_TOKENS = 60
_WINDOW_S = 4.0
_LONGEST_S = 20.0


@dataclass(frozen=True, slots=True)
class LoadLevel:
    """One level: the requested load, and the errors of the client's figures."""

    users: int
    step_ms: float
    tokens_per_s: float
    cpu_us_per_token: float
    busy_share: float
    """CPU time plus waiting for a CPU, as a share of wall time."""
    itl_p99_off_ms: float
    ttft_p50_off_ms: float
    ttft_p99_off_ms: float
    concurrency_off: float
    """Share of the requested concurrency."""
    coalesced_share: float
    failed: int
    server_late_ms: float
    """99th percentile of the reference server's step time beyond the nominal step."""

    @property
    def accurate(self) -> bool:
        """True if the client's figures match the server's record."""
        return (
            not self.failed
            and self.itl_p99_off_ms <= 0.5
            and self.ttft_p50_off_ms <= 5.0
            and self.ttft_p99_off_ms <= 10.0
            and self.concurrency_off <= 0.02
            and self.coalesced_share <= 0.01
            and self.busy_share <= 0.9
        )

    @property
    def server_held(self) -> bool:
        """True if the reference server kept its steps."""
        return self.server_late_ms <= self.step_ms / 2


@dataclass(frozen=True, slots=True)
class ClientCalibration:
    """The capacity of one worker on one machine."""

    version: int
    host: str
    cpu_model: str
    cpus: int
    python: str
    measured_at: str
    worker_tokens_per_s: float
    worker_users: int
    cpu_us_per_token: float
    limited_by: str
    """`client`, `server` (the ceiling is at least that) or `levels` (the highest level was still accurate)."""
    levels: tuple[LoadLevel, ...]


def calibrate(
    drive: Callable[[LoadSpec], LoadResult],
    on_level: Callable[[LoadLevel], None],
) -> ClientCalibration:
    """Measure the ceiling; about three minutes. Raises EnvironmentFault if the reference server fails, Interrupted on Ctrl-C.

    Args:
        drive: the load generator (`rocbench.load.drive`), which itself asks this module for the ceiling.
        on_level: called after each level.
    """
    levels: list[LoadLevel] = []
    best, cost, limited_by = 0.0, float("nan"), "levels"

    def measure(users: int, step_ms: float) -> LoadLevel:
        levels.append(_measure(drive, users, step_ms))
        on_level(levels[-1])
        return levels[-1]

    for users, step_ms in RATES:
        level = measure(users, step_ms)
        if not level.accurate:
            limited_by = "client" if level.server_held else "server"
            break
        if level.tokens_per_s > best:
            best, cost = level.tokens_per_s, level.cpu_us_per_token
    most_users = max((level.users for level in levels if level.accurate), default=0)
    for users, step_ms in CROWDS:
        if not measure(users, step_ms).accurate:
            break
        most_users = max(most_users, users)
    return ClientCalibration(
        version=VERSION,
        host=platform.node(),
        cpu_model=_cpu_model(),
        cpus=len(usable()),
        python=platform.python_version(),
        measured_at=datetime.now(UTC).isoformat(timespec="seconds"),
        worker_tokens_per_s=round(best, 1),
        worker_users=most_users,
        cpu_us_per_token=round(cost, 2),
        limited_by=limited_by,
        levels=tuple(levels),
    )


def _measure(drive: Callable[[LoadSpec], LoadResult], users: int, step_ms: float) -> LoadLevel:
    seconds = max(_WINDOW_S, 3 * step_ms / 1e3)
    tokens = max(4, min(_TOKENS, int(_LONGEST_S / 2 * 1e3 / step_ms)))
    with serving(("--step-ms", str(step_ms))) as (url, _):
        spec = LoadSpec(
            target=Target(url, "reference", vocab_size=32_000),
            requests=RequestPlan(Lengths(32), Lengths(tokens)),
            shape=Closed(users),
            window=WindowPlan(duration_s=seconds, max_duration_s=_LONGEST_S, min_requests_per_user=0.05),
            run_id="calibrate",
            cell_id=f"{users}x{step_ms}",
            workers=1,
        )
        result = drive(spec)
        if result.window.ended_by == "interrupted":
            raise Interrupted("interrupted; this machine is not calibrated")
        record = ServerRecord.fetch(url)
    return judge(users, step_ms, result, record)


def judge(users: int, step_ms: float, result: LoadResult, record: ServerRecord) -> LoadLevel:
    """Compare a result with the server's record. Pure."""
    worker = result.workers[0]
    rows = result.requests
    measured = rows[(rows["phase"] == Phase.MEASURED) & (rows["failure"] < 0)]
    index = {int(re.sub(r"\D", "", name.rsplit("-", 1)[1])): i for i, name in enumerate(record.ids)}
    own = np.array([index[number] for number in measured["request_id"].tolist()], dtype=np.int64)
    starts = record.starts
    ttft = (measured["first_token_ns"] - measured["sent_ns"]) / 1e6
    true_ttft = (record.times_ns[starts[own]] - record.arrived_ns[own]) / 1e6
    gaps = [np.diff(record.times_ns[starts[i] : starts[i] + record.chunks[i]]) for i in own.tolist()]
    true_itl = np.percentile(np.concatenate(gaps), 99) / 1e6 if gaps else float("nan")
    inside = record.steps[
        (record.steps[:, 0] >= result.window.start_ns) & (record.steps[:, 0] < result.window.end_ns)
    ]
    late = (inside[:, 2] - inside[:, 0]) / 1e6 - step_ms
    tokens = max(1, result.output_tokens_in_window)
    waited = worker.cpu_wait_s or 0.0
    return LoadLevel(
        users=users,
        step_ms=step_ms,
        tokens_per_s=tokens / result.window.seconds,
        cpu_us_per_token=worker.cpu_s / tokens * 1e6,
        busy_share=(worker.cpu_s + waited) / max(worker.wall_s, 1e-9),
        itl_p99_off_ms=abs(result.itl.percentile_ns(99) / 1e6 - true_itl),
        ttft_p50_off_ms=_off(ttft, true_ttft, 50),
        ttft_p99_off_ms=_off(ttft, true_ttft, 99),
        concurrency_off=abs(_in_flight(result) / users - 1),
        coalesced_share=worker.coalesced_reads / max(1, worker.reads),
        failed=int((rows["failure"] >= 0).sum()),
        server_late_ms=max(0.0, float(np.percentile(late, 99))) if len(late) else float("nan"),
    )


def _off(measured: FloatArray, true: FloatArray, q: float) -> float:
    return abs(float(np.percentile(measured, q) - np.percentile(true, q))) if len(measured) else float("nan")


def _in_flight(result: LoadResult) -> float:
    """Time-weighted mean of requests in flight in the window."""
    start, end = result.window.start_ns, result.window.end_ns
    sent = np.clip(result.requests["sent_ns"], start, end)
    ended = np.clip(result.requests["end_ns"], start, end)
    return float((ended - sent).sum() / max(1, end - start))


# --- the file


def path() -> Path:
    """The file of this machine's calibration, in `$ROCBENCH_CACHE`, else `~/.cache/rocbench`."""
    folder = os.environ.get("ROCBENCH_CACHE")
    base = Path(folder) if folder else Path.home() / ".cache" / "rocbench"
    return base / f"calibration-{platform.node() or 'host'}.json"


def save(calibration: ClientCalibration) -> Path:
    """Save a calibration; the file is written whole or not at all."""
    where = path()
    where.parent.mkdir(parents=True, exist_ok=True)
    file, fresh = tempfile.mkstemp(".tmp", where.stem, where.parent)  # others may write into $ROCBENCH_CACHE
    with os.fdopen(file, "w", encoding="utf-8") as out:
        out.write(json.dumps(asdict(calibration), indent=2) + "\n")
        os.fchmod(file, 0o644)
    Path(fresh).replace(where)
    return where


def load() -> ClientCalibration | None:
    """This machine's calibration; None if it is missing, or is of another CPU or format."""
    try:
        kept = json.loads(path().read_text(encoding="utf-8"))
        if kept["version"] != VERSION or kept["cpu_model"] != _cpu_model():
            return None
        return ClientCalibration(**{**kept, "levels": tuple(LoadLevel(**level) for level in kept["levels"])})
    except (OSError, ValueError, KeyError, TypeError, RuntimeError):  # RuntimeError: there is no home folder
        return None


def _cpu_model() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor()
    match = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return match[1].strip() if match else platform.processor()

"""How much CPU of the server's API process does a client use? CPU per token of each process of real vLLM, by client.

    python benchmarks/starvation.py serve --cpu -1       # in another shell
    python benchmarks/api_cost.py URL --vllm .venv-vllm

Each way of asking sends the same number of requests of 64 + 64 tokens: ours, ours without usage in each chunk, with
token ids in its place, without `min_tokens`, each without reading /metrics meanwhile unless it says so, and
`vllm bench serve`. The order is turned round in each repeat. CPU is that of the server from before the first request until after the last, so
work in the warm-up is in, for all alike.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

from rocbench import load, processes
from rocbench.load import bodies, driver
from rocbench.load.dialect import learn
from rocbench.load.spec import Closed, Dialect, Lengths, LoadSpec, RequestPlan, Target, WindowPlan
from rocbench.probe import cpu
from rocbench.probe.scrape import Scraper
from rocbench.processes import ProcessTree
from rocbench.server import listener

MODEL = "tiny-llama-gqa"
ISL = OSL = 64


@dataclass(frozen=True)
class Way:
    """How a server is asked."""

    name: str
    dialect: Dialect = field(default_factory=Dialect)
    scrape_s: float | None = None
    """Seconds between readings of /metrics."""
    min_tokens: bool = True
    peer: bool = False


WAYS = (
    Way("ours", scrape_s=1.0),
    Way("no scrapes"),
    Way("10 scrapes/s", scrape_s=0.1),
    Way("usage at the end", Dialect(continuous_usage=False)),
    Way("token ids", Dialect(continuous_usage=False, token_ids=True)),
    Way("no min_tokens", min_tokens=False),
    Way("vllm bench serve", peer=True),
)


@dataclass(frozen=True)
class Cost:
    """Microseconds a token of the API process and of the engine's, tokens/s, tokens an event."""

    api_us: float
    engine_us: float
    tokens_per_s: float
    per_event: float


def usage(leader: int) -> dict[str, float]:
    """CPU seconds of the server's processes by role."""
    found: dict[str, float] = defaultdict(float)
    reading = cpu.read_cpu(ProcessTree(processes.identity_of(leader)).refresh())
    for member, seconds in reading.cpu_s.items():
        found[reading.roles[member]] += seconds
    return found


def ours(url: str, way: Way, users: int, requests: int) -> tuple[int, float, float]:
    """Tokens, seconds and tokens an event of one load of ours."""
    plain = bodies.base_body

    def base_body(*given: object) -> dict[str, object]:
        body = plain(*given)  # type: ignore[arg-type]
        if not way.min_tokens:
            body.pop("min_tokens", None)
        return body

    driver.learn = lambda spec, transport: replace(learn(spec, transport), dialect=way.dialect)  # type: ignore[attr-defined]
    bodies.base_body = base_body
    spec = LoadSpec(
        target=Target(base_url=url, model=MODEL, vocab_size=4096),
        requests=RequestPlan(isl=Lengths(ISL), osl=Lengths(OSL)),
        shape=Closed(users),
        window=WindowPlan(max_duration_s=120, max_requests=requests),
        seed=time.time_ns() % 2**31,
        run_id="cost",
        cell_id=str(time.time_ns()),
        repeat=1,
        keep_stamps=True,
    )
    try:
        with Scraper(url, period_s=way.scrape_s) if way.scrape_s else nullcontext():
            result = load.drive(spec)
    finally:
        driver.learn, bodies.base_body = learn, plain  # type: ignore[attr-defined]
    tokens = int(result.requests["output_tokens"].sum())
    events = int(result.requests["chunks"].sum()) if "chunks" in (result.requests.dtype.names or ()) else 0
    seconds = (result.window.end_ns - result.window.start_ns) / 1e9
    return tokens, seconds, tokens / events if events else float("nan")


def peer(url: str, vllm: Path, users: int, requests: int) -> tuple[int, float, float]:
    """The same by `vllm bench serve`."""
    command = [str(vllm / "bin" / "vllm"), "bench", "serve", "--backend", "openai", "--base-url", url]
    command += [
        "--endpoint",
        "/v1/completions",
        "--model",
        MODEL,
        "--tokenizer",
        str(vllm / "models" / MODEL),
    ]
    command += ["--dataset-name", "random", "--random-input-len", str(ISL), "--random-output-len", str(OSL)]
    command += ["--ignore-eos", "--num-prompts", str(requests), "--max-concurrency", str(users)]
    command += ["--temperature", "0", "--disable-tqdm"]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = [line for line in ended.stdout.splitlines() if line.startswith("Benchmark duration")]
    return requests * OSL, float(lines[0].split()[-1]), float("nan")


def cost(url: str, leader: int, way: Way, vllm: Path, users: int, requests: int) -> Cost:
    """One load and its cost for the server."""
    before = usage(leader)
    tokens, seconds, per_event = (
        peer(url, vllm, users, requests) if way.peer else ours(url, way, users, requests)
    )
    time.sleep(0.2)
    after = usage(leader)
    spent = {role: (after[role] - before[role]) / tokens * 1e6 for role in after}
    engine = spent.get("engine", 0.0) + spent.get("worker", 0.0)
    return Cost(spent["frontend"], engine, tokens / seconds, per_event)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("url")
    parser.add_argument("--vllm", type=Path, required=True)
    parser.add_argument("--users", type=int, nargs="+", default=[4, 64, 1000])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--ways", nargs="+", default=[way.name for way in WAYS])
    options = parser.parse_args()
    leader = listener.leader_of(options.url)
    if leader is None:
        sys.exit(f"no process of this machine listens at {options.url}")
    ways = [way for way in WAYS if way.name in options.ways]
    for users in options.users:
        requests = {4: 160, 64: 640}.get(users, 2 * users)
        found: dict[str, list[Cost]] = defaultdict(list)
        for repeat in range(options.repeats):
            for way in ways[:: 1 if repeat % 2 == 0 else -1]:
                found[way.name].append(cost(options.url, leader, way, options.vllm, users, requests))
        for name, costs in found.items():
            api = sorted(each.api_us for each in costs)
            print(
                f"{users:5} users {name:17} API us/token {statistics.median(api):6.1f}"
                f" ({api[0]:.1f} to {api[-1]:.1f}) engine {statistics.median(c.engine_us for c in costs):7.1f}"
                f" tokens/s {statistics.median(c.tokens_per_s for c in costs):7.0f}"
                f" tokens/event {statistics.median(c.per_event for c in costs):.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()

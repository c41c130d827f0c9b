"""How exact are the times of load generators? `bench` and its peers against the reference server, in one run.

    python benchmarks/client.py                                   # our two transports
    python benchmarks/client.py --vllm .venv-vllm/bin/vllm --aiperf PATH --guidellm PATH --steps 50 25

Every client sends the same load: so many closed-loop users, five requests each, bound by count, as peers do
it. CPU time is that of the client's whole process tree, less that of a run with a handful of requests (its
start-up). The reference server records the true times of the same requests. Peers are run where they are
given or found on PATH. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from rocbench.load import drive
from rocbench.load.prompts import WORDS
from rocbench.load.serverrecord import ServerRecord, serving
from rocbench.load.spec import Closed, Lengths, LoadSpec, RequestPlan, Target, WindowPlan
from rocbench.tables import metrics

REVISION = "0" * 40
ISL = 32


@dataclass(frozen=True, slots=True)
class Load:
    """One load: where to, how many users, requests in all, tokens each."""

    url: str
    users: int
    requests: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Reported:
    """The figures that a client reports, in ms; None where it reports none."""

    ttft_p50: float
    ttft_p99: float
    gap_p99: float | None


@dataclass(frozen=True, slots=True)
class Row:
    """One client against the server's record."""

    client: str
    cpu_us: float
    ttft_p50: tuple[float, float]
    ttft_p99: tuple[float, float]
    gap_p99: tuple[float | None, float]
    tokens_per_s: float
    running: float


Client = Callable[[Load, Path], Reported]


def ours(transport: str) -> Client:
    """The client of `bench`, in a separate process, so that its start-up counts like a peer's."""

    def run(load: Load, folder: Path) -> Reported:
        report = json.loads(
            call([sys.executable, __file__, "--one", transport, json.dumps(vars_of(load))], folder)
        )
        return Reported(report["ttft_p50"], report["ttft_p99"], report["gap_p99"])

    return run


def vars_of(load: Load) -> dict[str, Any]:
    """A load as JSON takes it."""
    return {name: getattr(load, name) for name in Load.__slots__}


def one(transport: str, load: Load) -> None:
    """Run the client of `bench` in this process and print its figures."""
    result = drive(spec(transport, load, WindowPlan(max_requests=load.requests)))
    summary = metrics.summarise(result, gpus=None)
    assert summary
    done = result.requests[result.requests["failure"] < 0]
    done = done[done["request_id"] < 2**40]
    ttft = (done["first_token_ns"] - done["sent_ns"]) / 1e6
    gap = result.itl.percentile_ns(99) / 1e6
    print(
        json.dumps({"ttft_p50": np.percentile(ttft, 50), "ttft_p99": np.percentile(ttft, 99), "gap_p99": gap})
    )


def spec(transport: str, load: Load, window: WindowPlan) -> LoadSpec:
    """Our own client's load."""
    return LoadSpec(
        target=Target(load.url, "reference", vocab_size=32_000),
        requests=RequestPlan(Lengths(ISL), Lengths(load.tokens)),
        shape=Closed(load.users),
        window=window,
        run_id="benchmark",
        transport=transport,  # type: ignore[arg-type]
    )


def vllm(program: str) -> Client:
    """`vllm bench serve`."""

    def run(load: Load, folder: Path) -> Reported:
        call(
            [program, "bench", "serve", "--backend", "openai", "--base-url", load.url, "--endpoint", "/v1/completions",
             "--model", "reference", "--tokenizer", str(snapshot(folder)), "--dataset-name", "random",
             "--random-input-len", str(ISL), "--random-output-len", str(load.tokens), "--ignore-eos",
             "--num-prompts", str(load.requests), "--max-concurrency", str(load.users), "--temperature", "0",
             "--percentile-metrics", "ttft,itl", "--metric-percentiles", "50,99", "--disable-tqdm",
             "--save-result", "--result-dir", str(folder), "--result-filename", "vllm.json"],
            folder,
        )  # fmt: skip
        report = json.loads((folder / "vllm.json").read_text())
        return Reported(report["median_ttft_ms"], report["p99_ttft_ms"], report["p99_itl_ms"])

    return run


def aiperf(program: str) -> Client:
    """AIPerf; its gap between chunks is `inter_chunk_latency`."""

    def run(load: Load, folder: Path) -> Reported:
        call(
            [program, "profile", "-m", "reference", "--url", load.url, "--endpoint-type", "completions", "--streaming",
             "--concurrency", str(load.users), "--request-count", str(load.requests), "--isl", str(ISL),
             "--osl", str(load.tokens), "--tokenizer", "bench/words", "--artifact-dir", str(folder / "aiperf"),
             "--extra-inputs", "ignore_eos:true", "--ui", "none"],
            folder,
        )  # fmt: skip
        report = json.loads((folder / "aiperf" / "profile_export_aiperf.json").read_text())
        ttft = report["time_to_first_token"]
        return Reported(ttft["p50"], ttft["p99"], report["inter_chunk_latency"]["p99"])

    return run


def guidellm(program: str) -> Client:
    """GuideLLM; it reports no gaps, only each request's mean."""

    def run(load: Load, folder: Path) -> Reported:
        out = folder / "guidellm.json"
        call(
            [program, "run", "--backend", f"kind=openai_http,target={load.url},model=reference,request_format=/v1/completions",
             "--profile", f"kind=concurrent,streams={load.users}", "--constraint", f"kind=max_requests,count={load.requests}",
             "--data", f"kind=synthetic_text,prompt_tokens={ISL},output_tokens={load.tokens}",
             "--tokenizer", f"kind=hf_auto,model={snapshot(folder)}", "--output", f"kind=json,path={out}", "--disable-console"],
            folder,
        )  # fmt: skip
        report = json.loads(out.read_text())["benchmarks"][0]["metrics"]["time_to_first_token_ms"][
            "successful"
        ]
        return Reported(report["median"], report["percentiles"]["p99"], None)

    return run


def call(argv: list[str], folder: Path) -> str:
    """Run a client with the small tokenizer in its Hugging Face cache; its output if it succeeded."""
    env = {**os.environ, "HF_HOME": str(folder / "hf"), "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}
    done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False, timeout=900)
    if done.returncode:
        raise SystemExit(f"{' '.join(argv)}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return done.stdout


def snapshot(folder: Path) -> Path:
    """The small tokenizer's folder in the cache."""
    return folder / "hf" / "hub" / "models--bench--words" / "snapshots" / REVISION


def write_tokenizer(folder: Path) -> None:
    """A tokenizer of a few hundred words, one token each, which peers need to make prompts."""
    vocabulary = {"<unk>": 0, "</s>": 1}
    for word in WORDS:
        vocabulary.setdefault("\u2581" + word, len(vocabulary))
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    where = snapshot(folder)
    where.mkdir(parents=True)
    refs = where.parent.parent / "refs"
    refs.mkdir()
    (refs / "main").write_text(REVISION)
    tokenizer.save(str(where / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "</s>", "unk_token": "<unk>"}
    (where / "tokenizer_config.json").write_text(json.dumps(settings | {"model_max_length": 4096}))
    config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": len(vocabulary)}
    (where / "config.json").write_text(json.dumps(config))


def cpu_s() -> float:
    """CPU seconds of all children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def ttft_ms(record: ServerRecord) -> np.ndarray[Any, Any]:
    """First token's write time minus the request's arrival, for requests with a token."""
    some = record.chunks > 0
    return (record.times_ns[record.starts[some]] - record.arrived_ns[some]) / 1e6


def gaps_ms(record: ServerRecord) -> np.ndarray[Any, Any]:
    """Gaps between the writes of tokens of the same request."""
    owner = np.repeat(np.arange(len(record.chunks)), record.chunks)
    return np.diff(record.times_ns)[owner[1:] == owner[:-1]] / 1e6


def measure(name: str, client: Client, users: int, step_ms: float, tokens: int, folder: Path) -> Row:
    """One client against a reference server of its own."""
    with serving(("--step-ms", str(step_ms))) as (url, _):
        before = cpu_s()
        client(Load(url, 1, 3, 3), folder)
        start_up = cpu_s() - before
    with serving(("--step-ms", str(step_ms))) as (url, _):
        before = cpu_s()
        reported = client(Load(url, users, 5 * users, tokens), folder)
        cpu = cpu_s() - before - start_up
        record = ServerRecord.fetch(url)
    ttft, gaps, tokens_sent = ttft_ms(record), gaps_ms(record), int(record.chunks.sum())
    seconds = float(record.times_ns.max() - record.arrived_ns.min()) / 1e9
    held = float((record.steps[:, 3]).sum()) * step_ms / 1e3 / seconds
    return Row(
        name,
        cpu / tokens_sent * 1e6,
        (reported.ttft_p50, float(np.percentile(ttft, 50))),
        (reported.ttft_p99, float(np.percentile(ttft, 99))),
        (reported.gap_p99, float(np.percentile(gaps, 99))),
        tokens_sent / seconds,
        held,
    )


def steady(transport: str, users: int, step_ms: float, tokens: int, seconds: float) -> str:
    """Our own client in a measured window: CPU of its workers in the window, and the errors of its figures."""
    from rocbench.load.calibrate import judge

    with serving(("--step-ms", str(step_ms))) as (url, _):
        window = WindowPlan(duration_s=seconds, min_requests_per_user=0)
        result = drive(spec(transport, Load(url, users, 0, tokens), window))
        level = judge(users, step_ms, result, ServerRecord.fetch(url))
    return (
        f"| {transport} | {level.cpu_us_per_token:.1f} | {level.ttft_p50_off_ms:.2f} | {level.ttft_p99_off_ms:.2f} "
        f"| {level.itl_p99_off_ms:.3f} | {100 * level.concurrency_off:.2f} % | {100 * level.busy_share:.0f} % |"
    )


def table(rows: list[Row]) -> str:
    """The rows as Markdown: reported against true, and CPU as a ratio to our wire's."""
    base = rows[0].cpu_us
    lines = [
        "| client | CPU us/token | ratio | TTFT p50 (true) ms | TTFT p99 (true) ms | gap p99 (true) ms | tokens/s | mean running |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        gap, true_gap = row.gap_p99
        shown_gap = "-" if gap is None else f"{gap:.2f}"
        lines.append(
            f"| {row.client} | {row.cpu_us:.1f} | {row.cpu_us / base:.1f} | {row.ttft_p50[0]:.1f} ({row.ttft_p50[1]:.1f}) "
            f"| {row.ttft_p99[0]:.1f} ({row.ttft_p99[1]:.1f}) | {shown_gap} ({true_gap:.2f}) "
            f"| {row.tokens_per_s:,.0f} | {row.running:,.0f} |"
        )
    return "\n".join(lines)


def version(program: str, *arguments: str) -> str:
    """The version that a peer reports."""
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False, timeout=120)
    return (done.stdout.strip() or done.stderr.strip()).splitlines()[-1] if done.returncode == 0 else "?"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--users", type=int, default=1000)
    parser.add_argument("--tokens", type=int, default=100)
    parser.add_argument("--steps", type=float, nargs="+", default=[50.0])
    parser.add_argument("--seconds", type=float, default=10.0, help="length of our own measured window")
    for peer in ("vllm", "aiperf", "guidellm"):
        parser.add_argument(
            f"--{peer}", default=shutil.which(peer), help="its program; skipped if it is not installed"
        )
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        one(options.one[0], Load(**json.loads(options.one[1])))
        return
    clients: dict[str, Client] = {"rocbench wire": ours("wire"), "rocbench aiohttp": ours("aiohttp")}
    if options.vllm:
        clients[f"vllm bench serve {version(options.vllm, '--version')}"] = vllm(options.vllm)
    if options.aiperf:
        clients[f"AIPerf {version(options.aiperf, '--version')}"] = aiperf(options.aiperf)
    if options.guidellm:
        clients[version(options.guidellm, "--version")] = guidellm(options.guidellm)
    print(f"{datetime.now(UTC):%Y-%m-%d}, {platform.processor() or platform.machine()}, {os.cpu_count()} CPUs, "
          f"load average {os.getloadavg()[0]:.1f} at the start")  # fmt: skip
    for step_ms in options.steps:
        print(f"\n{options.users} users, {options.tokens} tokens, steps of {step_ms:g} ms, bound by count\n")
        rows = []
        for name, client in clients.items():
            with tempfile.TemporaryDirectory() as folder:
                write_tokenizer(Path(folder))
                rows.append(measure(name, client, options.users, step_ms, options.tokens, Path(folder)))
        print(table(rows))
        print("\nin a measured window\n")
        print(
            "| transport | CPU us/token | TTFT p50 off ms | TTFT p99 off ms | ITL p99 off ms | concurrency off | busy |"
        )
        print("|---|---|---|---|---|---|---|")
        for transport in ("wire", "aiohttp"):
            print(steady(transport, options.users, step_ms, options.tokens, options.seconds), flush=True)


if __name__ == "__main__":
    main()

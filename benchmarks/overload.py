#!/usr/bin/env python3
"""Does a row say when an open loop is above capacity, and is a stationary load left alone?

    .venv/bin/python benchmarks/overload.py virtual [--seeds 200]
    .venv/bin/python benchmarks/overload.py url http://127.0.0.1:8000 MODEL --capacity 40 [--isl 64 --osl 32 --seconds 20]
    .venv/bin/python benchmarks/overload.py bias [--seeds 200]

`virtual` drives simulated servers at shares of their capacity in virtual time, many seeds each; `url` a running server
(simulated or real), once a share; `bias` closed loops of few users, for the rate of requests. Figures of a run are in
benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from rocbench.load import drive, prompts
from rocbench.load.spec import Closed, Lengths, LoadSpec, Open, RequestPlan, Shape, Target, WindowPlan
from rocbench.records import LoadResult
from rocbench.rules.load import shipped
from rocbench.rules.resolve import ServeRequest
from rocbench.rules.resolve import resolve as resolve_rules
from rocbench.settings import catalog
from rocbench.sim import calibration, predict
from rocbench.sim.argv import parse
from rocbench.sim.node import Context, Node, resolve
from rocbench.tables import metrics
from rocbench.verdict.judge import Evidence, Verdict, judge

SHARES = (0.5, 0.9, 1.05, 1.2, 2.0, 10.0)
MODEL, VLLM = "llama-3.1-405b", "0.14.1"
VOID = ("overloaded", "not_steady", "littles_law", "unfinished_requests")


@dataclass(frozen=True)
class Case:
    """One server and kind of load."""

    name: str
    seqs: int = 64
    isl: int = 64
    osl: int = 128
    sigma: float | None = None
    arrival: str = "poisson"
    seconds: float = 30.0

    @property
    def plan(self) -> RequestPlan:
        """Its requests."""
        kind = "fixed" if self.sigma is None else "lognormal"
        return RequestPlan(Lengths(self.isl), Lengths(self.osl, kind, sigma=self.sigma))

    def load(self, shape: Shape, seed: object, seconds: float | None = None) -> LoadSpec:
        """One load of it."""
        window = WindowPlan(duration_s=seconds or self.seconds)
        return LoadSpec(
            Target("http://virtual", "m"), self.plan, shape, window, run_id="r", cell_id=f"{seed}"
        )


CASES = (
    Case("64 seats, 32 tokens", osl=32),
    Case("64 seats, 128 tokens"),
    Case("64 seats, lognormal 128", sigma=1.0),
    Case("256 seats, 128 tokens", seqs=256),
    Case("16 seats, 256 tokens", seqs=16, osl=256),
    Case("64 seats, prompts of 2,048", isl=2048, osl=8),
    Case("64 seats, constant gaps", arrival="constant"),
    Case("64 seats, bursts", arrival="gamma"),
    Case("64 seats, 32 tokens, 8 s", osl=32, seconds=8.0),
)


def node(seqs: int) -> Node:
    """A simulated server with so many seats."""
    profile, hardware = catalog.model(MODEL), catalog.hardware("mi325x")
    found = resolve_rules(ServeRequest(profile, hardware, VLLM))
    context = Context.model_validate({"profile": profile, "hardware": hardware, "vllm": VLLM})
    argv = parse((*found.argv(), "--max-num-seqs", str(seqs)), VLLM, shipped().names)
    return resolve(argv, context, found.environment(), shipped(), calibration.read_calibration("default"))


def judged(load: LoadResult, *, predicted: bool) -> tuple[metrics.Row, Verdict]:
    """A load's row and its verdict."""
    row = metrics.summarise(load, gpus=None)
    shape = "open" if load.concurrency_asked is None else "closed"
    return row, judge(Evidence.from_row(row, predicted=predicted or None, load_shape=shape))


def open_loop(case: Case, rate: float) -> Open:
    """Arrivals of a case at a rate; bursts have gaps of twice the spread of Poisson's."""
    return Open(rate, case.arrival, 0.25 if case.arrival == "gamma" else 1.0)  # type: ignore[arg-type]


def virtual(seeds: int) -> None:
    """Every case at every share of its capacity."""
    print(
        f"{'case':28} {'share':>5} {'over':>6} {'doubt':>6} {'void':>6} {'plain':>6} {'slope':>8} {'window x':>8}"
    )
    for case in CASES:
        server = node(case.seqs)
        full = predict.drive(case.load(Closed(4 * case.seqs), "full", 300.0), server).load
        capacity = full.output_tokens_in_window / full.window.seconds / case.osl
        for share in SHARES:
            codes, slopes, lasting = Counter[str](), [], []
            runs = seeds if share <= 1.2 else max(5, seeds // 10)
            for seed in range(runs):
                load = predict.drive(
                    case.load(open_loop(case, share * capacity), f"{share}-{seed}"), server
                ).load
                row, verdict = judged(load, predicted=True)
                fired = set(verdict.reasons)
                codes["over"] += "overloaded" in fired
                codes["doubt"] += "backlog_unsure" in fired
                codes["void"] += bool(fired & set(VOID))
                codes["plain"] += not fired & {*VOID, "backlog_unsure"}
                slopes.append(float(row["backlog_slope_per_s"] or 0))
                lasting.append((int(load.requests["sent_ns"].max()) - predict.EPOCH_NS) / 1e9 / case.seconds)
            shown = " ".join(f"{codes[name] / runs:6.3f}" for name in ("over", "doubt", "void", "plain"))
            print(f"{case.name:28} {share:5} {shown} {np.mean(slopes):8.2f} {max(lasting):8.2f}", flush=True)


def url(base_url: str, model: str, capacity: float, case: Case) -> None:
    """A running server at every share of its capacity."""
    for share in SHARES:
        shape = Open(share * capacity)
        window = WindowPlan(duration_s=case.seconds)
        target = Target(base_url, model)
        began = time.monotonic()
        load = drive(LoadSpec(target, case.plan, shape, window, run_id="overload", cell_id=f"{share}"))
        row, verdict = judged(load, predicted=False)
        names = (
            "completed",
            "failed",
            "unfinished",
            "backlog_slope_per_s",
            "unserved_share",
            "window_ended_by",
        )
        figures = " ".join(f"{name}={_short(row[name])}" for name in names)
        print(
            f"{share:5} {time.monotonic() - began:6.1f} s {';'.join(verdict.reasons)} {figures}", flush=True
        )
        for note in load.notes:
            print(f"      {note}", flush=True)


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def bias(seeds: int) -> None:
    """Relative error of the request rate against a long run, as a mean over windows."""
    for case in (
        Case("128"),
        Case("512", osl=512),
        Case("lognormal 128", sigma=1.0),
        Case("lognormal 512", osl=512, sigma=1.0),
    ):
        server = node(256)
        for users in (1, 4, 64):
            long = _row(case.load(Closed(users), "long", 40_000 / users), server)
            found = [_row(case.load(Closed(users), seed), server) for seed in range(seeds)]
            shown = (_against(long, found, name) for name in ("request_throughput", "output_throughput"))
            print(f"{case.name:14} {users:3} users  {'  '.join(shown)}", flush=True)


def _row(spec: LoadSpec, server: Node) -> metrics.Row:
    load = predict.drive(spec, server).load
    row = metrics.summarise(load, gpus=None)
    ended = (load.requests["end_ns"] >= load.window.start_ns) & (load.requests["end_ns"] < load.window.end_ns)
    return row | {
        "counted": float(ended.sum()) / load.window.seconds,
        "mean": prompts.expected(spec.requests.osl),
    }


def _against(long: metrics.Row, found: Iterable[metrics.Row], name: str) -> str:
    ratios = np.array([float(row[name] or 0) for row in found]) / float(long[name] or 1) - 1
    return f"{name} {ratios.mean():+.2%} +- {ratios.std() / len(ratios) ** 0.5:.2%}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    kinds = parser.add_subparsers(dest="kind", required=True)
    for kind in ("virtual", "bias"):
        kinds.add_parser(kind).add_argument("--seeds", type=int, default=200)
    one = kinds.add_parser("url")
    one.add_argument("base_url")
    one.add_argument("model")
    one.add_argument("--capacity", type=float, required=True)
    for name, value in (("isl", 64), ("osl", 32), ("seconds", 20)):
        one.add_argument(f"--{name}", type=int, default=value)
    asked = parser.parse_args()
    if asked.kind == "virtual":
        virtual(asked.seeds)
    elif asked.kind == "bias":
        bias(asked.seeds)
    else:
        case = Case("url", isl=asked.isl, osl=asked.osl, seconds=float(asked.seconds))
        url(asked.base_url, asked.model, asked.capacity, case)


if __name__ == "__main__":
    main()

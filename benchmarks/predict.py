#!/usr/bin/env python3
"""How long a whole study takes in virtual time, on one core.

    .venv/bin/python benchmarks/predict.py [--method replay|corrected] [--variant 0.14.1] [STUDY]

Prints each part with its requests, tokens and CPU seconds. The study's own method is the default: its progressive
script (about the 17,400 requests and 18.9 M tokens that its abstract counts), the quick runs, the five runs and the
ablation. Figures of a run are in benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass

from rocbench.commands import planning
from rocbench.predict import predicting
from rocbench.study import folder, parts
from rocbench.study.parts import StudyPart

STUDY = "mi325x-2603.10031"


@dataclass(frozen=True)
class Cost:
    """Cost of the prediction of one part."""

    name: str
    runs: int = 0
    requests: int = 0
    tokens: int = 0
    virtual_s: float = 0.0
    cpu_s: float = 0.0

    def line(self) -> str:
        """As a row of the table."""
        return (
            f"{self.name:28} {self.runs:5,} {self.requests:10,} {self.tokens / 1e6:9.1f}"
            f" {self.virtual_s / 3600:8.1f} {self.cpu_s:7.1f}"
        )


def predict(part: StudyPart) -> Cost:
    """Predict every run of a part."""
    began, requests, tokens, virtual_s, runs = time.process_time(), 0, 0, 0.0, 0
    for found in predicting.predictions(part.plan):
        runs += 1
        if found.measured is None:
            continue
        rows = found.measured.result.requests
        requests += len(rows)
        tokens += int(rows["prompt_tokens"].sum()) + int(rows["output_tokens"].sum())
        virtual_s += float(rows["end_ns"].max() - rows["sent_ns"].min()) / 1e9
    return Cost(part.id, runs, requests, tokens, virtual_s, time.process_time() - began)


def costs(study: str, method: str, variant: str | None) -> Iterator[Cost]:
    """Each part's, planning included in the first."""
    yield from map(predict, parts.parts(folder.read(study), planning.sources, method=method, variant=variant))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("study", nargs="?", default=STUDY)
    parser.add_argument("--method", default="replay")
    parser.add_argument("--variant")
    given = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    began = time.process_time()
    print(f"{'part':28} {'runs':>5} {'requests':>10} {'M tokens':>9} {'virtual h':>8} {'CPU s':>7}")
    found = []
    for cost in costs(given.study, given.method, given.variant):
        found.append(cost)
        print(cost.line(), flush=True)
    total = Cost(
        "all, with planning",
        sum(c.runs for c in found),
        sum(c.requests for c in found),
        sum(c.tokens for c in found),
        sum(c.virtual_s for c in found),
        time.process_time() - began,
    )
    print(total.line())


if __name__ == "__main__":
    main()

"""Rows of `cells` for tests: repeats of one cell with noise."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd

SAME = {
    "run_id": "r",
    "model": "llama",
    "workload": "text-short",
    "load_shape": "closed",
    "hardware": "mi325x",
    "server_kind": "process",
    "simulated": False,
    "isl": 1024,
    "osl": 256,
    "images": 0,
    "transport": "wire",
    "vllm_version": "0.14.1",
    "precision": "fp8",
    "tp": 8,
    "aiter": "on",
    "valid": True,
    "discarded": False,
}


def cells(
    mean=1000.0, *, cov=0.01, n=5, seed=0, concurrency=64, axes=None, metric="output_throughput", **fields
):
    """`n` repeats of one cell; figures are normal around the mean."""
    rng = np.random.default_rng(seed)
    figures = mean * rng.normal(1, cov, n) if cov else np.full(n, float(mean))
    identity = json.dumps([concurrency, axes, fields], default=str)
    return pd.DataFrame(
        [
            SAME
            | {"cell_id": identity, "repeat": i + 1, "concurrency": concurrency, metric: figure}
            | {"axes": json.dumps(axes) if axes else None}
            | fields
            for i, figure in enumerate(figures)
        ]
    )


def table(*frames):
    """Several cells as one frame, typed as a run folder's cells are."""
    return pd.concat(frames, ignore_index=True).convert_dtypes()

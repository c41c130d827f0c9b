"""Servers that cannot be started, in whole sweeps: their cells say why, and the next server's are measured."""

import signal
import socket
import sys

import pytest
from sweeps import as_process, measured, sweep, wait_until

FIRST, NEXT = "llama-3.3-70b", "qwen3-235b"


def test_server_that_dies_at_load_or_in_the_window(bench):
    """Death at load and death under load cost their own cells only; each row has its reason; exit code 1."""
    ended = bench.sweep(
        sweep(
            ["llama-3.1-405b", FIRST, NEXT],
            concurrency=[2, 4],
            load={"duration_s": 1.5},
            faults={
                "llama-3.1-405b": {"oom_at_load": ""},
                FIRST: {"die_after_requests": 40},
            },
        )
    )

    assert ended.code == 1, ended.stderr
    assert ended.reasons("llama-3.1-405b", 2) >= {"server_failed", "gpu_out_of_memory"}
    assert ended.reasons("llama-3.1-405b", 4) >= {"server_failed", "gpu_out_of_memory"}
    print(ended.rows[["model", "concurrency", "valid", "reasons"]], ended.stderr)
    assert measured(ended, NEXT, 2)
    assert measured(ended, NEXT, 4)

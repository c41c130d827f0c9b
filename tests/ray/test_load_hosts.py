"""Load from two hosts: all users delivered, each host's gaps as true as one host's, rows in one clock."""

from __future__ import annotations

import numpy as np
import pytest

from loads import assert_same, gaps_ms, load_spec
from referenceserver import FaultRecord, serving
from rocbench.fleet import cluster as fleet_cluster
from rocbench.fleet.load import hosts
from rocbench.load import drive
from rocbench.tables import metrics

pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("ignore")]

USERS = 4000


def loaded(address, users, count, step_ms=200.0, tokens=20, **changes):
    """A load from `count` Ray nodes against the reference server: its result, the record, and its columns."""
    with (
        fleet_cluster.joined(address),
        serving(["--step-ms", str(step_ms)]) as (url, _),
        hosts(count, address, url) as agents,
    ):
        result = drive(load_spec(url, users, tokens, isl=8, **changes), agents=agents)
        record = FaultRecord.fetch(url)
    return result, record, metrics.summarise(result, gpus=None)


def test_4000_users_from_two_hosts_are_as_true_as_from_one(three):
    """Delivered within 2 %, the gaps' p99 within 0.5 ms of what the server wrote down, no request twice or lost."""
    result, record, row = loaded(three.address, USERS, 2, workers=2, duration_s=10.0)
    assert_same(result, record)
    assert len({worker.host for worker in result.workers}) == 2
    assert row["achieved_concurrency"] == pytest.approx(USERS, rel=0.02)
    measured = result.requests[(result.requests["phase"] == 1) & (result.requests["failure"] < 0)]
    true = float(np.percentile(gaps_ms(record, measured["request_id"]), 99))
    assert row["p99_itl_ms"] == pytest.approx(true, abs=0.5)
    assert len(row["load_hosts"].split(";")) == 2
    assert row["load_hosts_clock_bound_ms"] < 100

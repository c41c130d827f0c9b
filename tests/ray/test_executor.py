"""A sweep over three Ray nodes: the same rows as on one machine, each with its node, also when a node dies."""

from __future__ import annotations

import json
import re
import signal

import pytest

import sweeps

pytestmark = pytest.mark.ray

RESOURCE = "mi325x_node"


def six(**more):
    """Six servers of one cell, slow enough that two cores serve three of them."""
    return sweeps.sweep(
        ["deepseek-v3.2"],
        concurrency=[2],
        matrix={"product": {"max-num-seqs": [16, 32, 64, 128, 256, 512]}},
        simulation={"speed": 0.1, "load_s": 0.2},
        **more,
    )


def on(cluster, *words):
    """Command-line words for a cluster."""
    return ("--executor", "ray", "--address", cluster.address, "--resource", RESOURCE, *words)


def events(ended, name):
    """Lines of the run's log."""
    lines = [json.loads(line) for line in (ended.folder / "log.jsonl").read_text().splitlines()]
    return [line for line in lines if line["event"] == name]


def test_three_nodes_give_the_rows_of_one(three, bench, tmp_path):
    """Six servers on three nodes: all rows, each with its node, with the ids and columns of the local executor."""
    ended = bench.sweep(six(), *on(three), timeout=300)
    planned = bench.run("plan", str(tmp_path / "sweep.yaml"))
    (tmp_path / "alone").mkdir()
    one = sweeps.Bench(tmp_path / "alone")
    alone = one.sweep(six() | {"matrix": {"product": {"max-num-seqs": [16]}}}).rows
    rows = ended.rows
    assert len(rows) == 6
    assert set(rows["cell_id"]) == set(re.findall(r"\b[0-9a-f]{12}\b", planned.stdout))
    assert set(alone["cell_id"]) < set(rows["cell_id"])
    assert list(rows.columns) == list(alone.columns)
    assert {node.split("/")[1] for node in rows["node"]} == {node[:8] for node in three.nodes}
    assert (rows["completed"] > 0).all()
    assert alone["node"].nunique() == 1
    for name in ("requests", "histograms", "timeline", "server_metrics"):
        assert (ended.folder / f"{name}.parquet").is_file()
    for server in rows["server_id"]:
        assert (ended.folder / "servers" / server / "server.log").is_file()
        assert (ended.folder / "servers" / server / "resolved.json").is_file()
    assert len(json.loads((ended.folder / "manifest.json").read_text())["nodes"]) == 3


def test_a_node_that_dies_costs_no_cell(mortal, bench):
    """Killed after its first cell: every cell is there once, finished ones as they were, the reason in the log."""
    sweep = six() | {"concurrency": [2, 3]}
    process = bench.begin("sweep", bench.write(sweep), "--out", str(bench.out), *on(mortal))
    first = bench.out / "parts" / "cells"
    sweeps.wait_until(lambda: process.poll() is not None or list(first.glob("*.json")), timeout=300)
    (row, *_) = [json.loads(path.read_text()) for path in first.glob("*.json")]
    mortal.kill(row["node"].split("/")[1])
    ended = bench.end(process, timeout=300)
    bench.check(ended)
    rows = ended.rows
    assert len(rows) == 12
    assert not rows.duplicated(["cell_id", "repeat"]).any()
    kept = rows[rows["cell_id"] == row["cell_id"]].iloc[0]
    assert kept["started_at"] == row["started_at"]
    assert kept["node"] == row["node"]
    (died,) = events(ended, "node_died")
    assert died["node"] == row["node"]
    assert "dead" in died["reason"]
    assert len(events(ended, "cell")) == 12
    moved = rows[rows["moved"].notna()]
    assert len(moved) >= 1
    assert (moved["node"] != row["node"]).all()


def test_an_interrupted_sweep_goes_on(three, bench):
    """Ctrl-C stops every node's server after its cell and keeps what was measured; --resume makes the rest."""
    process = bench.begin("sweep", bench.write(six()), "--out", str(bench.out), *on(three))
    cells = bench.out / "parts" / "cells"
    sweeps.wait_until(lambda: process.poll() is not None or list(cells.glob("*.json")), timeout=300)
    process.send_signal(signal.SIGINT)
    ended = bench.end(process, timeout=120)
    bench.check(ended)
    assert ended.code == 130
    before = {row["cell_id"]: row["started_at"] for row in ended.rows.to_dict("records") if row["valid"]}
    assert len(ended.rows) < 6
    again = bench.run("sweep", "--resume", str(bench.out), *on(three), timeout=300)
    bench.check(again)
    rows = again.rows
    assert len(rows) == 6
    after = {row["cell_id"]: row["started_at"] for row in rows.to_dict("records")}
    assert {cell: after[cell] for cell in before} == before


def test_aa_nodes_measure_everything_everywhere(three, bench):
    """With --aa-nodes each node measures each cell, in one run folder."""
    sweep = six() | {"matrix": {"product": {"max-num-seqs": [16]}}}
    ended = bench.sweep(sweep, *on(three, "--aa-nodes"), timeout=300)
    assert len(ended.rows) == 3
    assert ended.rows["node"].nunique() == 3
    assert ended.rows["cell_id"].nunique() == 1
    assert "between nodes" in ended.stdout


def test_the_arms_of_an_ablation_stay_on_one_node(three, bench):
    """All arms of a model run on one node, interleaved."""
    sweep = six() | {"matrix": {}, "factors": {"max-num-seqs": [16, 32]}, "repeats": 1}
    ended = bench.sweep(sweep | {"models": ["deepseek-v3.2", "llama-3.1-405b"]}, *on(three), timeout=300)
    assert len(ended.rows) == 4
    assert (ended.rows.groupby("model")["node"].nunique() == 1).all()


def test_a_resource_that_no_node_has_is_named(three, bench):
    """Refused at once, with how to give it to a node."""
    ended = bench.run(
        "sweep", bench.write(six()), "--executor", "ray", "--address", three.address, "--resource", "x"
    )
    assert ended.code == 2
    assert "no node of the cluster has the resource 'x'" in ended.stderr

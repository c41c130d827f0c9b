"""Servers of one run under one name: told apart by what differs, and by nothing else."""

from __future__ import annotations

import json

from rocbench import ledger
from rocbench.judgement.disambiguation import disambiguated
from rocbench.store.folder import RunFolder
from rocbench.tables.parts import Identity
from rocbench.tables.row import Row


def row(server, key="m/w/c1", **more):
    """A row of one server."""
    return Row({"run_id": "r", "server_id": server, "key": key, "model": "m", "tp": 8} | more)


def keys(*rows):
    """The keys that they are told apart by."""
    return [found["key"] for found in disambiguated(rows)]


def test_entries_of_one_profile_are_named_by_what_differs():
    """The tensor-parallel size tells them apart, so that the version is not needed; as an axis would be."""
    one, other = row("01-m", tp=4, vllm_version="0.14.1"), row("02-m", "m/w/c64", vllm_version="0.16.0")
    assert keys(one, other) == ["m@tp=4/w/c1", "m@tp=8/w/c64"]
    assert keys(one | {"tp": 8}, other) == ["m@vllm=0.14.1/w/c1", "m@vllm=0.16.0/w/c64"]


def test_flags_and_variables_tell_apart_where_nothing_else_does():
    """They join the axes that are there."""
    flags = [json.dumps({"--block-size": 16, "--max-num-seqs": n}) for n in (64, 128)]
    rows = [row(f"0{n}-m", "m@x=1/w/c1", serve_args=flags[n], serve_env='{"A": "1"}') for n in (0, 1)]
    assert keys(*rows) == ["m@x=1,max-num-seqs=64/w/c1", "m@x=1,max-num-seqs=128/w/c1"]
    rows = [row(f"0{n}-m", serve_env=json.dumps({"A": str(n)})) for n in (0, 1)]
    assert keys(*rows) == ["m@env.A=0/w/c1", "m@env.A=1/w/c1"]


def test_clear_names_stay():
    """A restart is the same server, as is one that took other cells of the same configuration; runs stand apart."""
    rows = [row("01-m"), row("01-m.2", vllm_version="0.14.1"), row("02-m", "m/w/c64")]
    assert keys(*rows) == [found["key"] for found in rows]
    assert keys(row("01-m"), row("01-m", tp=4, run_id="s")) == ["m/w/c1"] * 2


def test_a_history_never_joins_two_servers(tmp_path):
    """Two entries of one profile in a run are two series, neither of them configured anew."""
    folder = RunFolder.create(tmp_path / "r")
    folder.write_json("manifest.json", {"run_id": "r", "begun_at": "2026-01-01T00:00:00"})
    for tp in (4, 8):
        cell = row(f"0{tp}-m", tp=tp, valid=True, output_throughput=100.0 * tp)
        folder.write_cell(Identity("r", f"cell-{tp}", 1), cell, {})
    table = ledger.history([folder], "output_throughput", {})
    assert list(table["key"]) == ["m@tp=4/w/c1", "m@tp=8/w/c1"]
    assert not table["changed"].any()

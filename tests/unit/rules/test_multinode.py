"""The commands of a server over two nodes, at the versions whose flags were read, as `bench plan` prints them."""

from __future__ import annotations

from pathlib import Path

import pytest

from rocbench import console
from rocbench.commands import planning
from rocbench.conduct import run
from rocbench.conduct.run import RunOptions
from rocbench.errors import ConfigError, InputError
from rocbench.plan import expand, faults
from rocbench.plan.expand import Overrides, Sources
from rocbench.report.live import PlainScreen
from rocbench.rules import multinode
from rocbench.rules.resolve import ServeRequest, resolve
from rocbench.settings import catalog
from rocbench.settings.schema import Sweep

GOLDEN = Path(__file__).parents[2] / "golden" / "fleet"
MODEL = "deepseek-r1-16gpu"
LAYOUTS = {
    "pp": {},
    "ray": {"distributed-executor-backend": "ray"},
    "dp": {"pipeline-parallel-size": 1, "tensor-parallel-size": 1, "data-parallel-size": 16},
}


def planned(vllm, kind="simulated", **args):
    """A plan of the 16-GPU profile."""
    sweep = Sweep.model_validate(
        {
            "name": "sixteen",
            "vllm": vllm,
            "models": [MODEL],
            "workloads": ["short"],
            "concurrency": [64],
            "server": {"kind": kind},
            "serve_args": args,
        }
    )
    sources: Sources = planning.sources(sweep, Overrides())
    made = expand.expand(sweep, sources)
    faults.raise_faults(made)
    return made


@pytest.mark.parametrize("vllm", ["0.14.1", "0.33.0"])
def test_each_host_gets_the_command_in_the_golden_file(vllm, capsys):
    """TP x PP by multiprocessing, the same by Ray, and DP with EP: one line a host."""
    shown = ""
    for layout, args in LAYOUTS.items():
        console.show_plan(planned(vllm, **args))
        lines = [line.strip() for line in capsys.readouterr().out.splitlines() if line.startswith("  host ")]
        assert len(lines) == 2
        shown += f"# {layout}\n" + "\n".join(lines) + "\n"
    path = GOLDEN / f"{MODEL}@{vllm}.txt"
    assert shown == path.read_text(), f"if this is wanted, write it to {path}:\n{shown}"


def test_only_the_first_host_answers():
    """Every host but the first is headless, and all name the first one's address."""
    found = resolve(ServeRequest(catalog.model(MODEL), catalog.hardware("mi325x"), "0.33.0", nodes=2))
    hosts = multinode.host_commands(found, head="10.0.0.1")
    words = [host.commands[0] for host in hosts]
    assert ["--headless" in line for line in words] == [False, True]
    assert all(line[line.index("--master-addr") + 1] == "10.0.0.1" for line in words)
    assert [line[line.index("--node-rank") + 1] for line in words] == ["0", "1"]


def test_one_node_has_one_command():
    """A server on one node is started as ever."""
    found = resolve(ServeRequest(catalog.model("deepseek-r1"), catalog.hardware("mi325x"), "0.33.0"))
    (host,) = multinode.host_commands(found)
    assert host.commands == (("vllm", "serve", *found.argv()),)


def test_ranks_that_do_not_fit_evenly_are_refused():
    """vLLM refuses a world size that is no multiple of the nodes; so does the plan."""
    found = resolve(
        ServeRequest(
            catalog.model(MODEL),
            catalog.hardware("mi325x"),
            "0.33.0",
            nodes=3,
            user_args={"data-parallel-size": 1},
        )
    )
    with pytest.raises(ConfigError, match="16 ranks cannot be spread evenly over 3 nodes"):
        multinode.host_commands(found)


def test_a_sweep_does_not_start_a_server_on_other_hosts(tmp_path):
    """It says what to do instead, before anything is started or written."""
    with pytest.raises(InputError, match="a separate command on each node"):
        run.run_plan(planned("0.33.0", kind="process"), RunOptions(out=tmp_path / "out"), PlainScreen())
    assert not (tmp_path / "out").exists()

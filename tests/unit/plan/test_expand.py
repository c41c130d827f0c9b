"""A sweep becomes ordered cells with stable ids; every fault comes at once."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from rocbench import console
from rocbench.commands import planning
from rocbench.errors import ConfigError
from rocbench.plan import expand as planner
from rocbench.plan import identity
from rocbench.plan.expand import Overrides, Plan
from rocbench.plan.faults import raise_faults
from rocbench.settings.schema import Sweep
from virtual import plan_of


def expand(overrides: Overrides | None = None, **changes: Any) -> Plan:
    """The plan of a small sweep with changes."""
    raw: dict[str, Any] = {
        "name": "test",
        "vllm": "0.14.1",
        "models": ["llama-3.1-405b"],
        "workloads": ["short"],
        "concurrency": [1, 8],
    }
    sweep = Sweep.model_validate(raw | changes)
    overrides = overrides or Overrides()
    return planner.expand(sweep, planning.sources(sweep, overrides), overrides)


@pytest.mark.parametrize(
    ("gpus", "told"),
    [
        ([0, 1], "lists 2 GPUs, but this server needs 4"),
        ([0, 0, 0, 0], "lists a GPU twice"),
        ([-1, 0, 1, 2], "lists GPU -1, but the node has GPUs 0 to 7"),
        ([96, 97, 98, 99], "lists GPU 96, but the node has GPUs 0 to 7"),
        ([4, 5, 6, 7], ""),
        ([0, 1, 2, 3, 4], ""),
    ],
)
def test_named_gpus(gpus: list[int], told: str) -> None:
    """GPUs that cannot be, or do not suffice, are refused before anything is started."""
    plan = expand(models=["qwen3-235b"], server={"kind": "process", "gpus": gpus})

    assert [fault.message for fault in plan.faults] == ([f"server.gpus {told}"] if told else [])


def keys(plan: Plan) -> list[str]:
    """Every cell of a plan, by its key."""
    return [cell.key for group in plan.groups for cell in group.cells]


def test_cells_in_order() -> None:
    """One server with its levels in the order written."""
    plan = expand()

    assert ["llama-3.1-405b/short/c1", "llama-3.1-405b/short/c8"] == keys(plan)
    assert 2 == plan.runs


def test_the_same_cell_has_the_same_id_in_every_sweep() -> None:
    """A cell's id depends on what decides it, not on its neighbours or the sweep's name."""
    one, other = expand(), expand(name="other", concurrency=[8, 64])

    assert one.groups[0].cells[1].cell_id == other.groups[0].cells[0].cell_id


@pytest.mark.parametrize(
    "change",
    [
        {"vllm": "0.13.0"},
        {"seed": 7},
        {"serve_args": {"block_size": 32}},
        {"env": {"NCCL_MIN_NCHANNELS": "112"}},
        {"load": {"duration_s": 31}},
        {"workloads": ["text-short"]},
        {"hardware": "mi300x"},
        {"simulation": {"noise_cv": 0.1}},
    ],
)
def test_whatever_decides_a_cell_changes_its_id(change: dict[str, Any]) -> None:
    """Another version, seed, flag, variable, load, workload, GPU or noise is another cell."""
    assert expand().groups[0].cells[0].cell_id != expand(**change).groups[0].cells[0].cell_id


def test_axes_make_servers() -> None:
    """Each combination of the matrix is a server of its own, named by its axes; exclusions drop cells."""
    plan = expand(
        matrix={"product": {"block_size": [16, 32]}, "exclude": [{"block_size": 32, "concurrency": 8}]},
    )

    assert [
        "llama-3.1-405b@block_size=16/short/c1",
        "llama-3.1-405b@block_size=16/short/c8",
        "llama-3.1-405b@block_size=32/short/c1",
    ] == keys(plan)


def test_only_selects_by_pattern() -> None:
    """--only takes a model, a prefix or a pattern."""
    for pattern in ("llama-3.1-405b/short/c8", "*/c8", "llama*/c8"):
        assert ["llama-3.1-405b/short/c8"] == keys(expand(Overrides(only=pattern)))
    assert 2 == len(keys(expand(Overrides(only="llama-3.1-405b"))))


def test_only_that_matches_nothing_is_a_fault() -> None:
    """A pattern without a cell says so instead of doing nothing."""
    plan = expand(Overrides(only="no-such"))

    with pytest.raises(ConfigError, match="no cell matches"):
        raise_faults(plan)


def test_an_exclude_that_leaves_nothing_is_named() -> None:
    """A plan without cells says what took them."""
    plan = expand(matrix={"exclude": [{"model": "llama-3.1-405b"}]})

    assert ["matrix.exclude" in fault.message for fault in plan.faults] == [True]


def test_the_command_line_wins_over_the_sweep() -> None:
    """--set, --tp and --aiter stand above the YAML."""
    plan = expand(Overrides(args={"block_size": 64}), serve_args={"block-size": 32})

    argv = plan.groups[0].resolution.argv()  # type: ignore[union-attr]
    assert "64" == argv[argv.index("--block-size") + 1]


def test_offload_on_sparse_mla_stops_the_plan_with_the_rule() -> None:
    """KV offload on DeepSeek V3.2 at 0.14.1 is refused, with the rule's name and reason."""
    plan = expand(
        models=["deepseek-v3.2"], serve_args={"kv_offloading_backend": "native", "kv_offloading_size": 64}
    )

    with pytest.raises(ConfigError) as caught:
        raise_faults(plan)
    assert "indexer.k_cache" in caught.value.text()
    assert "off-mla-bug" in caught.value.text()


@pytest.mark.parametrize(
    "change",
    [
        {"models": ["llama-3.1-405b", {"profile": "llama-3.1-405b"}], "concurrency": [8]},
        {"matrix": {"product": {"block_size": [16, 16]}}, "concurrency": [8]},
    ],
)
def test_a_cell_that_is_planned_twice_is_a_fault(change: dict[str, Any]) -> None:
    """Measured once, it would pass for both, and the run would end before its plan."""
    assert ["planned twice" in fault.message for fault in expand(**change).faults]


def test_a_server_that_runs_already_takes_no_flags() -> None:
    """What only a start could set is refused, not lost."""
    server = {"kind": "attached", "base_url": "http://127.0.0.1:1"}
    plan = expand(Overrides(tp=4, args={"block_size": 16}), server=server)

    assert [("--set --tp", True)] == [(f.where, "no effect" in f.message) for f in plan.faults]
    assert not expand(Overrides(vllm="0.16.0", hardware="mi300x"), server=server).faults


def test_a_flag_in_two_spellings_is_a_fault() -> None:
    """Of `max-num-seqs` and `max_num_seqs` in one place neither wins."""
    plan = expand(serve_args={"max-num-seqs": 3, "max_num_seqs": 4})

    assert "--max-num-seqs is given twice: 3 and 4" in plan.faults[0].message


def test_a_server_that_nobody_asked_for_has_no_faults() -> None:
    """What --only leaves out is not judged."""
    plan = expand(
        Overrides(only="llama-3.1-405b", args={"enforce_eager": "maybe"}),
        models=["llama-3.1-405b", "kimi-k2.5"],
    )

    assert ["llama-3.1-405b"] == [fault.where for fault in plan.faults]


def test_a_flag_that_the_simulated_vllm_does_not_have_is_a_fault() -> None:
    """Its parser would refuse it; with --force the server is asked itself, as a real one is."""
    assert "unrecognized arguments: --bogus" in expand(serve_args={"bogus": 1}).faults[0].message
    assert not expand(Overrides(force=True), serve_args={"bogus": 1}).faults
    assert not expand(serve_args={"bogus": 1}, server={"kind": "process"}).faults


@pytest.mark.parametrize("tp", [0, -8])
def test_no_ranks_is_a_fault(tp: int) -> None:
    """A server has one rank at least."""
    assert "at least 1" in expand(serve_args={"tensor_parallel_size": tp}).faults[0].message


@pytest.mark.parametrize(
    "axes",
    [
        {"concurrency": ["abc"]},
        {"tp": [1.5]},
        {"rate": [-1]},
        {"workload": [1]},
        {"model": ["llama-3.1-405b"]},
    ],
)
def test_axes_of_cells_take_what_cells_take(axes: dict[str, Any]) -> None:
    """An axis of levels, ranks or workloads holds values of its kind; models are no axis."""
    with pytest.raises(ValidationError, match=f"{next(iter(axes))}"):
        expand(matrix={"product": axes})


def test_workloads_can_be_an_axis() -> None:
    """The matrix may name workloads that the sweep does not list."""
    plan = expand(matrix={"product": {"workload": ["text-short"]}}, concurrency=[1])

    assert ["llama-3.1-405b/text-short/c1"] == keys(plan)


def test_all_faults_of_all_models_at_once() -> None:
    """Two models that cannot be served make two faults in one message."""
    plan = expand(
        models=["deepseek-v3.2", {"profile": "kimi-k2.5", "vllm": "0.14.1"}],
        serve_args={"kv_offloading_backend": "native", "kv_offloading_size": 64},
    )

    assert {"deepseek-v3.2", "kimi-k2.5"} == {fault.where for fault in plan.faults}


def test_images_are_left_out_for_a_text_model() -> None:
    """A vision workload on a text model is skipped with its reason, not failed."""
    plan = expand(workloads=["short", "vision"])

    assert 2 == plan.runs
    assert "does not support images" in plan.skipped[0].reason


def test_a_request_longer_than_the_model_is_skipped() -> None:
    """ISL + OSL above --max-model-len cannot run, and the plan says so."""
    plan = expand(workloads=["short", "text-long"], serve_args={"max_model_len": 4096})

    assert any("max-model-len 4096" in skip.reason for skip in plan.skipped)


def test_a_request_whose_images_are_too_long_is_skipped() -> None:
    """Image tokens count: three of 1024 x 1024 are 3,078."""
    plan = expand(models=["qwen3-vl-235b"], workloads=["study-images-3"], serve_args={"max_model_len": 3500})

    assert any("ISL + images + OSL" in skip.reason for skip in plan.skipped)


def launches(plan: Plan) -> list[tuple[str, list[tuple[str, int]]]]:
    """Each launch as its arm and its runs."""
    return [
        (launch.group.axes.get("aiter", "-"), [(run.cell.level.label, run.repeat) for run in launch.runs])
        for launch in plan.launches
    ]


def test_one_load_serves_all_cells_and_repeats() -> None:
    """Without restarts a server is loaded once."""
    assert [("-", [("c1", 1), ("c8", 1), ("c1", 2), ("c8", 2)])] == launches(expand(repeats=2))


def test_restart_per_repeat_and_per_cell() -> None:
    """Restarts are launches of their own."""
    assert 2 == len(expand(repeats=2, restart="per_repeat").launches)
    assert 4 == len(expand(repeats=2, restart="per_cell").launches)


def test_interleaved_order_turns_round() -> None:
    """Every second repeat runs the levels backwards, so that drift can't pass for an effect of the level."""
    plan = expand(repeats=2, order="interleaved")

    assert [("-", [("c1", 1), ("c8", 1), ("c8", 2), ("c1", 2)])] == launches(plan)


def test_arms_of_an_ablation_run_abba() -> None:
    """Arms alternate with restarts, each pair of repeats mirrored."""
    plan = expand(factors={"aiter": ["off", "on"]}, repeats=2, concurrency=[8])

    order = [arm for arm, _ in launches(plan)]
    assert order == order[::-1]
    assert {"on", "off"} == set(order)
    assert [1, 1, 2, 2] == [runs[0][1] for _, runs in launches(plan)]


def test_the_first_repeat_after_a_load_can_be_discarded() -> None:
    """Discarded measurements come first and are marked."""
    plan = expand(repeats=2, discard_first=True, concurrency=[8])

    assert [True, False, False] == [run.discarded for run in plan.launches[0].runs]


def test_what_is_off_decides_nothing() -> None:
    """A setting that is absent, false or empty is not part of the id: one that is added later changes none."""
    assert identity._stated({"a": None, "b": False, "c": [], "d": {"e": None}, "f": 0, "g": 0.0}) == {
        "f": 0,
        "g": 0.0,
    }


def test_a_container_without_an_image_is_a_fault_of_the_plan() -> None:
    """No node's time is spent on finding out that a profile names no image for this version."""
    given = {
        "name": "boxed",
        "models": ["deepseek-v3.2"],
        "workloads": ["short"],
        "concurrency": [1],
        "server": {"kind": "container"},
    }
    (fault,) = plan_of(given | {"vllm": "0.33.0"}).faults
    assert "no container image for vLLM 0.33.0" in fault.message
    named = {"server": {"kind": "container", "image": "vllm/vllm-openai-rocm:v0.33.0"}}
    assert not plan_of(given | {"vllm": "0.33.0"} | named).faults
    assert not plan_of(given | {"vllm": "0.14.1"}).faults


@pytest.mark.parametrize("columns", ["60", "80", "200"])
def test_a_plan_shows_every_value_at_any_width(
    columns: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A table where there is room for it, else two lines a cell: nothing is cut."""
    monkeypatch.setenv("COLUMNS", columns)
    plan = expand(models=["llama-3.1-405b"], matrix={"product": {"tp": [4, 8]}})
    console.show_plan(plan)
    said = capsys.readouterr().out
    shown = " ".join(said.split())
    assert "…" not in said
    for cell in (cell for group in plan.groups for cell in group.cells):
        for text in (cell.key, cell.cell_id, f"{cell.estimate.kv_capacity_tokens:,}"):
            assert text in shown


def test_a_plan_lists_launches_in_their_order(capsys: pytest.CaptureFixture[str]) -> None:
    """Repeat by repeat, where servers start more than once: the arms of an ablation run A B, then B A."""
    factors = {"max_num_seqs": [64, 128]}
    plan = expand(models=["llama-3.1-405b"], factors=factors, repeats=8)
    console.show_plan(plan)
    said = " ".join(capsys.readouterr().out.split())
    number = {group.server_id: str(n) for n, group in enumerate(plan.groups, start=1)}
    launched = [number[launch.group.server_id] for launch in plan.launches]
    pairs = [" ".join(launched[i : i + 2]) for i in range(0, 12, 2)]
    assert f"launches in order, a repeat between semicolons: {'; '.join(pairs)}; ..." in said
    console.show_plan(expand(models=["llama-3.1-405b"], repeats=8))
    assert "launches in order" not in capsys.readouterr().out


def test_a_plan_prints_the_configured_command(capsys: pytest.CaptureFixture[str]) -> None:
    """What will be started, where that is not `vllm`; a simulated server's own start is not shown."""
    for kind, program in (("process", "/opt/env/bin/vllm"), ("simulated", "vllm")):
        console.show_plan(expand(server={"kind": kind, "command": ["/opt/env/bin/vllm"]}))
        assert f" {program} serve " in capsys.readouterr().out


def test_a_fault_without_a_known_fix_ends_there() -> None:
    """No empty line of advice."""
    plan = expand(serve_args={"kv-offloading-size": 64, "disable-hybrid-kv-cache-manager": None})
    (fault,) = plan.faults
    assert "[rule off-hma-flag;" in fault.message
    assert "fix:" not in fault.message


def test_blocks_of_one_level_have_keys_of_their_own() -> None:
    """Where two blocks measure the same level, the key says in what their loads differ; the same cell is there once."""
    constant = {"rate": [4, 8], "load": {"shape": {"kind": "open", "arrival": "constant"}}}
    blocks = [{}, constant, {"rate": [4]}]
    made = expand(concurrency=[], rate=[2, 4], load={"shape": {"kind": "open"}}, blocks=blocks)
    names = [key.removeprefix("llama-3.1-405b") for key in keys(made)]
    assert names == ["/short/r2", "/short/r4", "@arrival=constant/short/r4", "@arrival=constant/short/r8"]


def test_blocks_of_other_levels_keep_their_plain_keys() -> None:
    """A longer window at some levels is no other curve; from levels that a search may come to it is told apart."""
    changes: dict[str, Any] = {"blocks": [{}, {"concurrency": [2], "load": {"duration_s": 60}}]}
    assert keys(expand(**changes))[-1] == "llama-3.1-405b/short/c2"
    changes["search"] = {"slo": {"p99_ttft_ms": 2000}}
    assert keys(expand(**changes))[-1] == "llama-3.1-405b@duration_s=60.0/short/c2"


@pytest.mark.parametrize("axis", ["env.MY_TOKEN", "env.UNLISTED", "hf_token"])
@pytest.mark.parametrize("where", ["matrix", "factors"])
def test_an_axis_that_is_never_shown(axis: str, where: str) -> None:
    """Its values would stand in keys, or its cells could not be told apart: the plan stops, and repeats none."""
    values = ["s3cret-one", "s3cret-two"]
    plan = expand(
        **({"matrix": {"product": {axis: values}}} if where == "matrix" else {"factors": {axis: values}})
    )
    with pytest.raises(ConfigError, match="bench hides the values") as caught:
        raise_faults(plan)
    assert "s3cret" not in caught.value.text()
    assert "planned twice" not in caught.value.text()
    assert ("ROCBENCH_SHOWN=UNLISTED" in caught.value.text()) == (axis == "env.UNLISTED")


def test_an_axis_that_its_user_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that no table lists, once its values are said to be no secrets."""
    monkeypatch.setattr("rocbench.variables._more", {"OTHER", "UNLISTED"})
    plan = expand(matrix={"product": {"env.UNLISTED": ["0", "1"]}})

    assert not plan.faults
    assert len({cell.cell_id for group in plan.groups for cell in group.cells}) == len(keys(plan))
    assert [group.axes for group in plan.groups] == [{"env.UNLISTED": "0"}, {"env.UNLISTED": "1"}]

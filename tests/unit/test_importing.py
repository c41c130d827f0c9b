"""Rows of other tools are marked, and held against every check that their data allow."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from rocbench import importing
from rocbench.cli import app
from rocbench.errors import Exit, InputError
from rocbench.settings import catalog
from rocbench.store.folder import RunFolder

VLLM_BENCH: dict[str, Any] = {
    "model_id": "meta-llama/Llama-3.1-405B-Instruct",
    "num_prompts": 100,
    "request_rate": "inf",
    "max_concurrency": 1000,
    "duration": 25.0,
    "completed": 100,
    "failed": 0,
    "total_input_tokens": 200_000,
    "total_output_tokens": 51_200,
    "request_throughput": 4.0,
    "output_throughput": 2048.0,
    "total_token_throughput": 10_048.0,
    "mean_e2el_ms": 24_000.0,
    "median_ttft_ms": 880.0,
}


def complete(row: dict[str, Any]) -> dict[str, Any]:
    """A row completed as Llama-405B on MI325X."""
    profile = catalog.model("llama-3.1-405b")
    return importing.complete(row, profile, catalog.hardware("mi325x"), "test")


def test_the_study_s_peak_is_above_the_hardware() -> None:
    """34,050 tokens/s of Llama-405B would need 131 % of the node's FP8 peak: the row is invalid."""
    row = complete({"model": "llama-3.1-405b", "concurrency": 500, "total_token_throughput": 34_050})

    assert row["valid"] is False
    assert "above_hardware_limit" in row["reasons"].split(";")
    assert 1.2 < row["roofline_share"] < 1.4


def test_a_possible_figure_is_unknown_not_fine() -> None:
    """What fits under the limit is still not known to be true."""
    row = complete({"model": "llama-3.1-405b", "concurrency": 500, "total_token_throughput": 15_944})

    assert row["valid"] is None
    assert "too_few_requests" in row["unknown_checks"]


def test_vllm_bench_result_becomes_a_row() -> None:
    """Keys of `vllm bench serve` find their columns, and derived lengths are right."""
    row = importing.from_vllm_bench(VLLM_BENCH, "x.json")

    assert (1000, 2048.0, 880.0) == (row["concurrency"], row["output_throughput"], row["median_ttft_ms"])
    assert (2000, 512) == (row["isl"], row["osl"])
    assert 8000.0 == row["input_throughput"]


@pytest.mark.parametrize(
    ("result", "void"),
    [
        ({"median_tpot_ms": 0.0}, True),
        ({"median_e2el_ms": 880.0}, True),
        ({"median_tpot_ms": 40.0, "median_e2el_ms": 21_000.0}, False),
        ({"median_tpot_ms": 0.0, "total_output_tokens": 100}, False),  # answers of one token
    ],
)
def test_a_result_whose_answers_came_in_one_piece_is_void(result: dict[str, float], void: bool) -> None:
    """A TPOT of 0, or a TTFT that is the E2EL, contradicts answers of 512 tokens."""
    row = complete(importing.checked(importing.from_vllm_bench(VLLM_BENCH | result, "x.json"), "x.json"))

    assert ("not_streamed" in row["reasons"].split(";")) == void


@pytest.mark.parametrize(
    ("result", "failed"),
    [
        ({"failed": None, "completed": 70}, 30),
        ({"failed": 0, "completed": 70}, 30),
        ({"failed": 30, "completed": 70}, 30),
        ({"failed": None, "completed": 100}, 0),
        ({"failed": None, "completed": 100, "errors": ["", "refused", ""]}, 1),
        ({"failed": 5, "completed": None}, 5),
        ({"failed": None, "completed": None, "errors": ["", "a", "b"]}, 2),
        ({"failed": None, "completed": 120}, None),  # more than were sent: nobody knows
        ({"failed": None, "completed": None}, None),
    ],
)
def test_what_was_sent_and_did_not_complete_failed(result: dict[str, Any], failed: int | None) -> None:
    """Results of any version tell their failed requests, or the row says that its error rate is not known."""
    data = {key: value for key, value in (VLLM_BENCH | result).items() if value is not None}
    row = complete(importing.checked(importing.from_vllm_bench(data, "x.json"), "x.json"))

    assert row.get("failed") == failed
    assert ("error_rate" in row["reasons"].split(";")) == (failed is not None and failed > 1)
    unknown = str(row["unknown_checks"]).split(";")
    assert ("error_rate" in unknown) == (failed is None)


def test_counts_of_a_table_follow_from_its_success_rate() -> None:
    """A CSV with a success rate and one count has the other; what does not follow stays unknown."""
    read = {"output_throughput": 5.0}
    assert importing.checked(read | {"completed": 70, "success_rate": 0.7}, "x")["failed"] == 30
    assert importing.checked(read | {"failed": 30, "success_rate": 0.7}, "x")["completed"] == 70
    assert importing.checked(read | {"completed": 70, "failed": 30}, "x")["success_rate"] == 0.7
    assert "failed" not in importing.checked(read | {"completed": 70}, "x")
    assert "failed" not in importing.checked(read | {"completed": 70, "success_rate": 1e-320}, "x")
    with pytest.raises(InputError, match="must be between -1e"):
        importing.checked(read | {"failed": 1e308, "success_rate": 0.999}, "x")


def test_100_requests_for_1000_users_are_called_out() -> None:
    """The request cap of the study's harness voids the row, also when another tool made it."""
    row = complete(importing.from_vllm_bench(VLLM_BENCH, "x.json"))

    codes = row["reasons"].split(";")
    assert row["valid"] is False
    assert {"too_few_requests", "concurrency_not_delivered"} <= set(codes)


def test_other_json_is_refused() -> None:
    """A JSON file of another shape is bad input."""
    with pytest.raises(InputError, match="vllm bench serve"):
        importing.from_vllm_bench({"a": 1}, "x.json")


def test_import_command_writes_a_run_folder(tmp_path: Path) -> None:
    """Rows of CSV and JSON land in one run folder, marked as imported; invalid ones give exit code 1."""
    (tmp_path / "r.json").write_text(json.dumps(VLLM_BENCH))
    (tmp_path / "r.csv").write_text("model,concurrency,total_token_throughput\nllama-3.1-405b,500,34050\n")
    out = tmp_path / "run"

    result = CliRunner().invoke(
        app,
        [
            "import",
            str(tmp_path / "r.json"),
            str(tmp_path / "r.csv"),
            "--hardware",
            "mi325x",
            "--out",
            str(out),
        ],
    )

    assert Exit.DONE_WITH_FAULTS == result.exit_code
    cells = (out / "cells.csv").read_text()
    assert 3 == len(cells.splitlines())
    assert "imported" in cells


def test_a_column_of_anothers_decides_no_check() -> None:
    """Though it has the name of something that only a run's conductor knows."""
    extra = {"output_throughput": 100, "server_failed": "no", "platform": 7}

    assert complete(extra)["reasons"] == complete({"output_throughput": 100})["reasons"]


def test_a_column_of_anothers_may_hold_numbers_here_and_words_there(tmp_path: Path) -> None:
    """It is kept as text; also booleans next to numbers."""
    for name, mine in (("a", "7,True"), ("b", "seven,2.5")):
        (tmp_path / f"{name}.csv").write_text(f"output_throughput,mine,also\n5,{mine}\n")
    files = [str(tmp_path / f"{name}.csv") for name in "ab"]
    result = CliRunner().invoke(app, ["import", *files, "--out", str(tmp_path / "out")])

    assert Exit.DONE == result.exit_code, result.output
    cells = RunFolder.open(tmp_path / "out").cells()
    assert ["7", "seven"] == sorted(cells["mine"])
    assert ["2.5", "True"] == sorted(cells["also"])


def test_no_row_replaces_another() -> None:
    """Rows that agree in all that makes a cell are repeats; rows of unlike settings are cells of their own."""
    same = {"model": "llama-3.1-405b", "concurrency": 100, "total_token_throughput": 6700}
    rows = importing.numbered([complete(same | {"aiter": aiter}) for aiter in ("off", "on", "off")])

    assert [1, 1, 2] == [row["repeat"] for row in rows]
    assert rows[0]["cell_id"] == rows[2]["cell_id"] != rows[1]["cell_id"]


def test_speculation_is_counted_by_steps() -> None:
    """An honest speculative row is not above the limit: several tokens come from one step."""
    fast = VLLM_BENCH | {"max_concurrency": 1, "output_throughput": 165.0, "total_token_throughput": 800.0}
    reported = complete(importing.from_vllm_bench(fast | {"spec_decode_acceptance_length": 2.9}, "x.json"))
    unreported = complete(importing.from_vllm_bench(fast, "x.json"))

    assert reported["roofline_share"] < 1 < unreported["roofline_share"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("x.csv", "model,output_throughput\n", "holds no row"),
        ("x.csv", "foo,bar\n1,2\n", "the row has neither a throughput nor a latency"),
        ("x.csv", "model,concurrency\nllama-3.1-405b,8\n", "the row has neither a throughput nor a latency"),
        (
            "x.csv",
            "model,output_throughput\na,1\nb,fast\n",
            "row 2: `output_throughput` must be a number, not 'fast'",
        ),
        ("x.csv", "model,output_throughput\na,-5\n", "at least 0"),
        ("x.csv", "model,output_throughput\na,inf\n", "must be a number"),
        ("x.csv", "output_throughput,concurrency\n5,0\n", "at least 1"),
        ("x.csv", "output_throughput,tp\n5,2.5\n", "whole number"),
        ("x.csv", "output_throughput,repeat\n5,first\n", "`repeat` must be a number, not 'first'"),
        ("x.csv", "output_throughput,repeat\n5,1e300\n", "`repeat` is 1"),
        ("x.csv", "output_throughput,concurrency\n5,1e30\n", "more than 64 bits"),
        ("x.csv", f"output_throughput,duration_s\n5,{'9' * 400}\n", "`duration_s` must be a number, not 9"),
        ("x.csv", f"output_throughput,mine\n5,{'9' * 30}\n", "more than 64 bits"),
        (
            "x.csv",
            "output_throughput,open_file_limit\n5,many\n",
            "`open_file_limit` must be a number, not 'many'",
        ),
        ("x.csv", "output_throughput,throttled\n5,much\n", "true or false"),
        ("x.csv", "output_throughput,simulated\n5,perhaps\n", "true or false"),
        ("x.csv", "output_throughput,serve_args\n5,{nope\n", "a JSON object of flags"),
        ("x.csv", "output_throughput,serve_args\n5," + '"{' + "[" * 900 + '"\n', "a JSON object of flags"),
        ("x.json", "[" * 900 + "]" * 900, "deeper than 64"),
        ("x.json", '{"output_throughput": ' + "9" * 5000 + "}", "a whole number of 5000 digits"),
        ("x.json", json.dumps(VLLM_BENCH) + "\n" + '{"a": 1, "a": 2}', ":2: key 'a' appears twice"),
        ("x.json", "null", "`output_throughput` is missing"),
        ("x.json", "[]", "holds no row"),
        ("x.json", json.dumps(VLLM_BENCH | {"model_id": 5}), "`model` must be text, not 5"),
        (
            "x.json",
            json.dumps(VLLM_BENCH | {"request_rate": "abc"}),
            "`request_rate` must be a number, not 'abc'",
        ),
        (
            "x.json",
            json.dumps(VLLM_BENCH | {"total_input_tokens": "many"}),
            "`total_input_tokens` must be a number, not 'many'",
        ),
        ("x.json", json.dumps(VLLM_BENCH | {"mean_ttft_ms": {"a": 1}}), "`mean_ttft_ms`"),
    ],
)
def test_odd_files_end_in_one_message(tmp_path: Path, name: str, text: str, message: str) -> None:
    """Junk is an input error that names the file, the row and the column; nothing is left behind."""
    path = tmp_path / name
    path.write_text(text)
    result = CliRunner().invoke(app, ["import", str(path), "--out", str(tmp_path / "out")])

    assert isinstance(result.exception, InputError)
    assert message in result.exception.text()
    assert str(path) in result.exception.text()
    assert not (tmp_path / "out").exists()


def test_appended_results_are_one_a_line(tmp_path: Path) -> None:
    """`vllm bench serve --append-result` leaves a JSON text a line."""
    path = tmp_path / "x.json"
    path.write_text("\n".join(json.dumps(VLLM_BENCH | {"max_concurrency": n}) for n in (100, 200)))
    CliRunner().invoke(app, ["import", str(path), "--out", str(tmp_path / "out")])

    assert [100, 200] == sorted(RunFolder.open(tmp_path / "out").cells()["concurrency"])


@pytest.mark.parametrize(
    ("figures", "message"),
    [
        (
            {"output_throughput": 34_050},
            "34,050 output tokens/s; the GPUs allow at most 26,042 (limit: compute)",
        ),
        (
            {"output_throughput": 1_000, "concurrency": 4},
            "1,000 output tokens/s; the GPUs allow at most 476 (limit: latency)",
        ),
        ({"request_throughput": 100, "osl": 500}, "50,000 output tokens/s; the GPUs allow at most 26,042"),
        ({"median_tpot_ms": 2.0}, "TPOT of 2.00 ms; even for a single user, TPOT is at least 8.41 ms"),
    ],
)
def test_what_needs_no_lengths_is_checked_without_them(figures: dict[str, float], message: str) -> None:
    """Every token passes all matrices, and every step reads all weights, however long requests are."""
    row = complete({"model": "llama-3.1-405b"} | figures)

    assert row["valid"] is False
    assert "above_hardware_limit" in row["reasons"].split(";")
    assert message in row["limit"]
    assert row["roofline_output_throughput"] <= 26_042


def test_a_tpot_that_can_be_or_is_absent_voids_nothing() -> None:
    """`vllm bench serve` writes 0 if no request had two tokens."""
    for tpot in (9.0, 0.0):
        assert complete({"median_tpot_ms": tpot, "output_throughput": 100})["valid"] is None


def test_the_kv_cache_is_told_where_its_flags_are() -> None:
    """Utilization and batched tokens decide it; without them no default is assumed."""
    flags = {"tensor-parallel-size": 8, "--quantization": "fp8"}
    sized = flags | {"gpu-memory-utilization": 0.9, "max-num-batched-tokens": 8192, "max-model-len": 32768}
    rows = [complete({"output_throughput": 9, "serve_args": json.dumps(args)}) for args in (flags, sized)]

    assert rows[0].get("kv_capacity_tokens") is None
    assert rows[1]["kv_capacity_tokens"] > 1_000_000


def imported(tmp_path: Path, text: str, *argv: str) -> Any:
    """What `bench import` does with a CSV file."""
    (tmp_path / "x.csv").write_text(text)
    return CliRunner().invoke(app, ["import", str(tmp_path / "x.csv"), "--out", str(tmp_path / "out"), *argv])


def test_a_row_s_own_model_goes_before_the_option(tmp_path: Path) -> None:
    """--model is for rows that name no known one; names are case-insensitive, and one without a profile is reported."""
    text = "model,output_throughput\nLlama-3.1-405B,9\nlama-3.1-405b,8\n,7\n"
    result = imported(tmp_path, text, "--model", "qwen3-235b")
    models = RunFolder.open(tmp_path / "out").cells().set_index("output_throughput")["model"]

    assert ["llama-3.1-405b", "qwen3-235b", "qwen3-235b"] == [models[rate] for rate in (9, 8, 7)]
    assert (
        "no profile matches the model 'lama-3.1-405b'; did you mean llama-3.1-405b? Its rows use --model"
        in result.stderr
    )


def test_a_model_option_without_a_profile_is_refused(tmp_path: Path) -> None:
    """The message lists the known names."""
    result = imported(tmp_path, "output_throughput\n7\n", "--model", "nosuch")

    assert isinstance(result.exception, InputError)
    assert "no model named 'nosuch'" in result.exception.text()
    assert not (tmp_path / "out").exists()

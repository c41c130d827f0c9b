"""Names, units and figures of each format; keys without an equivalent are absent."""

from __future__ import annotations

import csv
import datetime
import inspect
import io
import json
from dataclasses import replace

import numpy as np
import pytest

from rocbench import columns
from rocbench.commands import reporting
from rocbench.errors import InputError
from rocbench.export import aiperf, inferencex, mapping, pytorch, tidy, vllm_bench, write
from rocbench.export.source import Distribution, Source
from rocbench.store.folder import RunFolder
from rocbench.tables.parts import Identity
from rocbench.tables.row import Row

VLLM_KEYS = set(
    "date endpoint_type backend label model_id num_prompts request_rate max_concurrency duration completed failed "
    "total_input_tokens total_output_tokens request_throughput request_goodput output_throughput "
    "total_token_throughput".split()
) | {
    f"{statistic}_{name}_ms"
    for statistic in ("mean", "median", "std", "p90", "p95", "p99")
    for name in ("ttft", "tpot", "itl", "e2el")
}
"""Keys that `vllm bench serve` writes (vllm/benchmarks/serve.py, v0.32.0), of those that have an equivalent."""

AIPERF_UNITS = {
    # display unit of each metric class in aiperf 0.13.0, aiperf/metrics/types
    "time_to_first_token": "ms",
    "inter_token_latency": "ms",
    "inter_chunk_latency": "ms",
    "request_latency": "ms",
    "output_token_throughput_per_user": "tokens/sec/user",
    "input_sequence_length": "tokens",
    "output_sequence_length": "tokens",
    "request_throughput": "requests/sec",
    "output_token_throughput": "tokens/sec",
    "total_token_throughput": "tokens/sec",
    "goodput": "requests/sec",
    "good_request_count": "requests",
    "request_count": "requests",
    "error_request_count": "requests",
    "benchmark_duration": "sec",
    "amd_total_gpu_power": "W",
    "amd_total_gpu_energy": "J",
    "amd_energy_per_output_token": "mJ/token",
}
AIPERF_STATISTICS = {"unit", "avg", "p1", "p5", "p10", "p25", "p50", "p75", "p90", "p95", "p99"} | {
    "min",
    "max",
    "std",
    "count",
    "sum",
}

INFERENCEX_KEYS = set(
    "hw conc model framework precision spec_decoding disagg isl osl is_multinode tp pp dcp_size pcp_size ep "
    "dp_attention tput_per_gpu output_tput_per_gpu input_tput_per_gpu avg_power_w avg_total_gpu_power_w "
    "total_gpu_energy_j joules_per_successful_query joules_per_input_token joules_per_output_token "
    "joules_per_total_token power_valid".split()
)
"""Keys of a single-node row (InferenceX utils/process_result.py and aggregate_power.py at 843c625)."""


def test_vllm_keys_are_those_of_vllm(source):
    """Every key of the mapping is written, under vLLM's name."""
    result = vllm_bench.result(source)
    assert VLLM_KEYS <= set(result)
    metadata = {field.name for field in vllm_bench.METADATA}
    assert set(result) - VLLM_KEYS <= metadata


def test_vllm_figures_fit_one_another(source):
    """Throughput is tokens over duration, as a reader of that JSON will compute it."""
    result = vllm_bench.result(source)
    assert result["total_output_tokens"] / result["duration"] == pytest.approx(
        result["output_throughput"], rel=1e-4
    )
    total = result["total_input_tokens"] + result["total_output_tokens"]
    assert total / result["duration"] == pytest.approx(result["total_token_throughput"], rel=1e-4)
    assert result["median_ttft_ms"] == source.get("median_ttft_ms")
    assert result["request_rate"] == "inf"
    datetime.datetime.strptime(result["date"], "%Y%m%d-%H%M%S").replace(tzinfo=datetime.UTC)


def test_what_vllm_calls_itl_is_our_icl(source):
    """Gaps between chunks: the columns of ICL, not those of ITL."""
    result = vllm_bench.result(source)
    assert result["median_itl_ms"] == source.get("median_icl_ms")
    assert result["mean_itl_ms"] == source.get("mean_icl_ms")
    chunks = source.latencies["icl"]
    assert result["p90_itl_ms"] == pytest.approx(chunks.percentile(90))


def test_vllm_folders_are_those_of_a_sweep(run):
    """run=N.json for each repeat, and a summary.json with all of them, as plot reads it."""
    files = vllm_bench.files(write.sources(run))
    folder = "SERVE--deepseek-v3.2-BENCH--text-2048-512-c16"
    assert {f"{folder}/run=0.json", f"{folder}/run=1.json", f"{folder}/summary.json"} <= set(files)
    assert files[f"{folder}/summary.json"] == [files[f"{folder}/run={n}.json"] for n in (0, 1)]


def test_the_inferencex_row_is_what_its_script_makes(source):
    """Their rules on our vllm-bench JSON give the same latencies, in seconds, and the same interactivity."""
    row = {field.name: field.value(source) for field in inferencex.FIELDS if field.value(source) is not None}
    raw = vllm_bench.result(source)
    expected = {}
    for key, value in raw.items():
        if key.endswith("_ms"):
            expected[key.replace("_ms", "")] = float(value) / 1000.0
            if "tpot" in key and not key.startswith("std"):
                expected[key.replace("_ms", "").replace("tpot", "intvty")] = 1000.0 / float(value)
    assert {key: row[key] for key in expected} == pytest.approx(expected)
    assert set(row) == INFERENCEX_KEYS | set(expected)
    assert row["tput_per_gpu"] == pytest.approx(raw["total_token_throughput"] / 8)
    assert row["input_tput_per_gpu"] == pytest.approx(row["tput_per_gpu"] - row["output_tput_per_gpu"])
    assert row["joules_per_output_token"] * raw["total_output_tokens"] == pytest.approx(
        row["total_gpu_energy_j"]
    )


def test_a_simulated_row_says_so_in_every_format(run, source):
    """Nowhere can it pass for a measurement."""
    assert vllm_bench.result(source)["simulated"] == "true"
    assert vllm_bench.result(source)["label"] == "rocbench-simulated"
    assert inferencex.files([source])["rows.json"][0]["hw"] == "simulated-mi325x"
    (record, *_) = pytorch.files([source])["benchmark_results.json"]
    assert record["benchmark"]["name"] == "rocbench (simulated)"
    assert aiperf.export(source)["metadata"]["simulated"] is True
    (line, *_) = csv.DictReader(io.StringIO(tidy.csv_long([source])))
    assert line["simulated"] == "true"
    assert json.loads(tidy.jsonl([source]))["simulated"] is True


def test_pytorch_records_hold_all_repeats(run):
    """One record a metric and cell, with benchmark, model and metric as the database has them."""
    records = pytorch.files(write.sources(run))["benchmark_results.json"]
    names = {record["metric"]["name"] for record in records}
    assert {"output_throughput", "median_ttft_ms", "p99_tpot_ms"} <= names
    for record in records:
        assert set(record) == {"benchmark", "model", "metric"}
        assert len(record["metric"]["benchmark_values"]) == 2
        assert record["model"]["name"] in ("deepseek-ai/DeepSeek-V3.2", "Qwen/Qwen3-VL-235B-A22B-Instruct")
        assert record["benchmark"]["extra_info"]["args"]["tensor_parallel_size"] == 8


def test_aiperf_metrics_have_aiperfs_units(source):
    """Each tag is one of AIPerf's, with its unit and its statistics."""
    exported = aiperf.export(source)
    metrics = {name: value for name, value in exported.items() if isinstance(value, dict) and "unit" in value}
    assert {name: value["unit"] for name, value in metrics.items()} == {
        name: unit for name, unit in AIPERF_UNITS.items() if name != "error_request_count"
    }
    assert all(set(value) <= AIPERF_STATISTICS for value in metrics.values())
    assert exported["schema_version"] == "1.4"


def test_what_aiperf_calls_inter_token_latency_is_tpot(source):
    """(E2EL - TTFT) / (n - 1), and its inverse is the pace of a user."""
    exported = aiperf.export(source)
    itl, pace = exported["inter_token_latency"], exported["output_token_throughput_per_user"]
    assert itl["p50"] == pytest.approx(source.get("median_tpot_ms"), rel=1e-6)
    assert pace["min"] == pytest.approx(1000 / itl["max"], rel=1e-6)
    assert exported["time_to_first_token"]["p99"] == pytest.approx(source.get("p99_ttft_ms"), rel=1e-6)
    assert exported["time_to_first_token"]["count"] == source.get("completed")


def test_csv_long_has_one_line_a_figure(run):
    """Metrics are numeric columns of docs/results.md with their unit; absent figures have no line."""
    lines = list(csv.DictReader(io.StringIO(tidy.csv_long(write.sources(run)))))
    units = {column.name: column.unit for column in columns.CELLS}
    assert all(units[line["metric"]] == line["unit"] for line in lines)
    assert all(float(line["value"]) is not None for line in lines)
    lines_of_metric = [line for line in lines if line["metric"] == "output_throughput"]
    assert len(lines_of_metric) == 8
    assert {line["better"] for line in lines_of_metric} == {"higher"}


def test_jsonl_has_one_object_a_row(run):
    """Every row, the invalid ones too, with the verdict."""
    rows = [json.loads(line) for line in tidy.jsonl(write.sources(run)).splitlines()]
    assert len(rows) == 8
    assert sum(row["valid"] is False for row in rows) == 2
    assert all(None not in row.values() for row in rows)


@pytest.mark.parametrize("name", write.FORMATS)
def test_invalid_rows_leave_only_where_the_format_says_so(run, tmp_path, name):
    """Formats without a verdict get valid and unknown rows, unless asked for more."""
    done = write.export(run, name, tmp_path / "a")
    assert done.origins == {"simulated"}
    assert all(path.stat().st_size > 10 for path in done.files)
    assert (done.rows, done.left_out) == ((8, {}) if name in write.TEXT_FORMATS else (6, {"invalid rows": 2}))
    assert write.export(run, name, tmp_path / "b", invalid=True).rows == 8


def test_rows_that_a_format_has_no_place_for_are_counted(tmp_path):
    """The reported files and rows are those written; the others are counted by reason."""
    folder = RunFolder.create(tmp_path / "r")
    for level, users, rate in (("c1", 1, None), ("r2", None, 2.0)):
        row = {
            "key": f"m/w/{level}",
            "model": "m",
            "concurrency": users,
            "request_rate": rate,
            "completed": 1,
        }
        folder.write_cell(Identity("r", level, 1), row | {"valid": True}, {})
    done = write.export(folder, "inferencex", tmp_path / "out")
    assert done.rows == len(json.loads((tmp_path / "out" / "rows.json").read_text(encoding="utf-8"))) == 1
    assert [(count, "open loop" in reason) for reason, count in done.left_out.items()] == [(1, True)]


def test_a_prediction_is_never_called_simulated(source):
    """Nothing ran at all."""
    row = Source(source.row | {"predicted": True}, source.server, source.manifest, source.load)
    assert vllm_bench.result(row)["label"] == "rocbench-predicted"
    assert inferencex.files([row])["rows.json"][0]["hw"] == "predicted-mi325x"
    assert pytorch.files([row])["benchmark_results.json"][0]["benchmark"]["name"] == "rocbench (predicted)"
    assert aiperf.export(row)["metadata"]["predicted"] is True


def test_an_unknown_format_is_bad_input(run, tmp_path):
    """The message lists the formats."""
    with pytest.raises(InputError, match="inferencex"):
        write.export(run, "xml", tmp_path)


def test_absent_figures_are_left_out_not_invented(source):
    """A row without GPUs, power or SLO has none of the keys that follow from them."""
    bare = {
        name: value
        for name, value in source.row.items()
        if name
        not in ("gpus", "energy_j", "mean_power_w", "joules_per_output_token", "goodput", "goodput_share")
    }
    poor = replace(source, row=Row(bare))
    row = inferencex.files([poor])["rows.json"][0]
    assert not any("joules" in key or "gpu" in key or key == "power_valid" for key in row)
    assert "request_goodput" not in vllm_bench.result(poor)
    assert not any(name.startswith(("amd_", "good")) for name in aiperf.export(poor))


def test_figures_that_no_float_holds_make_no_count(source):
    """A row that somebody edited."""
    huge = replace(source, row=source.row | {"output_throughput": 1e300, "duration_s": 1e300})

    assert huge.tokens("output_throughput") is None
    assert "end_time" not in aiperf.export(huge)
    assert Distribution(np.ones(2), np.array([1.0, np.inf])).count is None


def test_weighted_statistics_are_those_of_repeated_values():
    """A histogram's bins count as often as they were hit."""
    bins = Distribution(np.array([1.0, 2.0, 10.0]), np.array([5.0, 4.0, 1.0]))
    flat = np.repeat([1.0, 2.0, 10.0], [5, 4, 1])
    assert bins.count == 10
    assert bins.mean == pytest.approx(flat.mean())
    assert bins.std == pytest.approx(flat.std())
    assert bins.total == pytest.approx(flat.sum())
    assert bins.percentile(95) == 10.0
    assert Distribution(np.empty(0)).percentile(50) is None


def test_the_mapping_names_every_key():
    """docs/exports.md has a line for each key of each format."""
    text = mapping.mapping_page()
    for fields in (vllm_bench.FIELDS, vllm_bench.METADATA, inferencex.FIELDS, pytorch.MAPPING, aiperf.FIELDS):
        for field in fields:
            assert f"| `{field.name}` |" in text


def test_the_help_and_the_page_name_every_format():
    """`--format` lists the formats by hand, because importing them is slow; each has a section of the page."""
    help_text = inspect.getsource(reporting.export)
    assert [name for name in write.FORMATS if name not in help_text] == []
    page = mapping.mapping_page()
    assert [name for name in write.FORMATS if f"## {name}" not in page] == []

"""Counts that nobody can measure are refused by their number, with the line, before anything is built of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from rocbench.errors import ConfigError
from rocbench.judgement import factorial
from rocbench.settings import extent, yamlfile
from rocbench.settings.schema import Hardware, Sweep, Workload

SWEEP = "name: x\nmodels: [a, b]\nworkloads: [w]\nconcurrency: [1, 2]\n"
TOO_MANY = {
    "repeats: 1.0e+30": "repeats: is too large (got 1e+30)",
    "repeats: 1001": "repeats: must be less than or equal to 1000 (got 1001)",
    "repeats: 0": "repeats: must be greater than 0",
    "again: -1": "again: must be greater than or equal to 0",
    "seed: -1": "seed: must be",
    "load: {duration_s: 1.0e+300}": "load.duration_s: must be less than or equal to 2592000",
    "load: {max_requests: 100000000000}": "load.max_requests: must be",
    "until: {interval_half_width: 5%, max: 100000}": "until.max: must be",
    "power: {effect: 3}": "power.effect: 3 means 300%, but must be below 100%; write, for example, 3% or 0.03",
    "power: {cov: 1}": "power.cov: 1 means 100%",
    "until: {told: 2, max: 12}": "until.told: 2 means 200%",
    "search: {slo: {p99_ttft_ms: 1}, high: 1.0e+30}": "search.high: must be",
    "simulation: {speed: 1.0e+30}": "simulation.speed: must be",
    f"matrix: {{product: {{{', '.join(f'a{n}: [1, 2]' for n in range(200))}}}}}": "more than 10^15 servers for 2 models",
    f"matrix: {{product: {{max_num_seqs: {list(range(1, 1002))}}}}}": "2,002 servers for 2 models; at most 2,000 servers are allowed",
    f"factors: {{{', '.join(f'f{n}: [1, 2]' for n in range(11))}}}": "4,096 servers",
    f"matrix: {{product: {{concurrency: {list(range(1, 1000))}}}}}\nrepeats: 900": "measurements (cells times repeats); at most 100,000 are allowed",
}


@pytest.mark.parametrize(("line", "why"), TOO_MANY.items(), ids=[why[:30] for why in TOO_MANY.values()])
def test_a_count_beyond_use_is_refused(line: str, why: str, tmp_path: Path) -> None:
    """With file and line; that of the whole where the counts are right each by itself."""
    path = tmp_path / "sweep.yaml"
    path.write_text(SWEEP + line)
    with pytest.raises(ConfigError) as told:
        yamlfile.load(path, Sweep)
    assert why in told.value.text()
    assert f"{path}:{1 if ' are allowed' in why or 'servers' in why else 5}: " in told.value.text()
    assert len(told.value.text()) < 400


def test_counts_of_other_files(tmp_path: Path) -> None:
    """Tokens, pixels, GPUs and bytes/s."""
    path = tmp_path / "a.yaml"
    path.write_text(
        "name: w\nisl: {mean: 1000000000000}\nosl: {mean: 1}\nimages: {count: 999, width: 9999, height: 9999}"
    )
    with pytest.raises(ConfigError) as told:
        yamlfile.load(path, Workload)
    assert ":2: isl.mean: must be less than or equal to 100000000" in told.value.text()
    assert ":4: images: the images of one request have 99,880,020,999 pixels" in told.value.text()
    path.write_text("name: h\nplatform: rocm\ngpus: 1000000\ngpu: {hbm_bytes_per_s: 0}")
    with pytest.raises(ConfigError) as told:
        yamlfile.load(path, Hardware)
    assert ":3: gpus: must be" in told.value.text()
    assert ":4: gpu.hbm_bytes_per_s: must be greater than 0" in told.value.text()


def test_a_file_of_nothing_but_faults_is_told_in_some_lines(tmp_path: Path) -> None:
    """Twenty of them."""
    path = tmp_path / "sweep.yaml"
    path.write_text(SWEEP + "blocks: [" + "{x: 1}, " * 3000 + "]")
    with pytest.raises(ConfigError) as told:
        yamlfile.load(path, Sweep)
    assert told.value.text().count("\n") == 20
    assert told.value.text().endswith("there are more than 20 faults")


@pytest.mark.parametrize("design", ["full", "one_at_a_time", "leave_one_out", "pairwise"])
def test_arms_are_counted_as_they_are_made(design: str) -> None:
    """By each design."""
    factors = {"aiter": ("off", "on"), "tp": (1, 2, 4), "block_size": (1, 16)}
    made = Sweep.model_validate(
        {
            "name": "x",
            "models": ["a"],
            "workloads": ["w"],
            "concurrency": [1],
            "factors": factors,
            "design": design,
        }
    )
    assert extent.arms(made) >= len(factorial.arms(made.factors, made.design)) > extent.arms(made) / 2


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("matrix: {product: {concurrency: [1000000000000]}}", "whole numbers from 1 to 1,000,000, not 1000000000000"),
        ("matrix: {product: {tp: [0]}}", "whole numbers from 1 to 1,024, not 0"),
        ("simulation: {faults: {a: {die_after_s: x}}}", "fault `die_after_s` cannot have the value 'x'"),
        ("simulation: {faults: {a: {log_flood_bytes: 1000000000000000}}}", "fault `log_flood_bytes` cannot have the value 1000000000000000"),
    ],
)  # fmt: skip
def test_values_that_are_free_in_their_form_are_bounded_too(line: str, why: str, tmp_path: Path) -> None:
    """Axes and faults of the simulated server."""
    path = tmp_path / "sweep.yaml"
    path.write_text(SWEEP + line)
    with pytest.raises(ConfigError) as told:
        yamlfile.load(path, Sweep)
    assert f"{path}:5: " in told.value.text()
    assert why in told.value.text()

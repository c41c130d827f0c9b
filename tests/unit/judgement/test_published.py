"""What can be told from a published table of means and bounds of CoVs."""

from __future__ import annotations

from pathlib import Path

import pytest

import rocbench
from rocbench.errors import ConfigError
from rocbench.judgement import published, render
from rocbench.settings import yamlfile

TABLE = Path(rocbench.__file__).parent / "configs" / "published" / "aiter-llama-405b.yaml"


@pytest.fixture(name="aiter")
def _aiter():
    return yamlfile.load(TABLE, published.PublishedTable)


def test_the_aiter_table_level_by_level(aiter):
    """The 3-5 % gains hold only if the CoVs were at the low end of what was stated; losses at 5 to 50 users are noise."""
    found = published.read(aiter).table.set_index("levels")
    assert set(found["verdict"]) == {"cannot tell"}
    assert list(found.loc[["1", "100", "200", "500"], "at_low"]) == ["better"] * 4
    assert set(found["at_high"]) == {"cannot tell"}
    assert found.loc["10", "at_low"] == "same"
    assert "better" not in set(found.loc[["5", "10", "50"], "at_low"])
    assert found.loc["100", "n_needed"] > 5


def test_levels_above_the_request_count_are_one_condition(aiter):
    """100 requests a level: 100, 200 and 500 are one condition with n=15, not a trend with the load."""
    reading = published.read(aiter)
    pooled = reading.table.set_index("levels").loc["100, 200, 500"]
    assert pooled["n"] == 15
    assert pooled["low"] > 0
    assert any("show no trend" in note for note in reading.notes)


def test_more_variability_can_be_told(aiter):
    """The bounds do not touch: AITER on varied at least 3.3 times as much, over all levels together."""
    reading = published.read(aiter)
    ratio, low, _ = reading.spread_ratio
    assert reading.spread == "more variable"
    assert ratio == pytest.approx(0.01 / 0.003)
    assert low > 2
    assert set(reading.table.set_index("levels").loc[["1", "5", "10", "50"], "spread"]) == {"cannot tell"}


def test_bounds_that_overlap_tell_nothing_of_variability(aiter):
    """With CoV ranges that overlap, either arm may be the more variable one."""
    overlapping = aiter.model_copy(update={"base": published.ArmSpread(name="off", cov=(0.005, 0.02))})
    assert published.read(overlapping).spread == "cannot tell"


def test_small_spreads_tell_the_gain(aiter):
    """With both CoVs surely small, 4 % at 100 users is told."""
    sure = aiter.model_copy(update={"arm": published.ArmSpread(name="on", cov=(0.001, 0.003))})
    assert published.read(sure).table.set_index("levels").loc["100", "verdict"] == "better"


def test_a_malformed_table_is_named(tmp_path):
    """A CoV given in percent is refused with its place in the file."""
    path = tmp_path / "t.yaml"
    path.write_text(TABLE.read_text().replace("[0.01, 0.05]", "[1, 5]"))
    with pytest.raises(ConfigError, match=r"arm.*cov must be \[low, high\] as shares"):
        yamlfile.load(path, published.PublishedTable)


def test_rendered(aiter):
    """The text names source, bounds, levels and what is told."""
    text = render.reading(aiter, published.read(aiter))
    assert "CoV 1.0% to 5.0% against 0.1% to 0.3%" in text
    assert "100, 200, 500" in text
    assert "more variable" in text


def test_the_documented_table_is_what_is_read(aiter):
    """docs/statistics.md shows the verdicts that the code gives, level by level."""
    text = (Path(__file__).parents[3] / "docs" / "statistics.md").read_text(encoding="utf-8")
    text = text[text.index("### A published table") :]
    for row in published.read(aiter).table.to_dict("records"):
        line = next(line for line in text.splitlines() if line.startswith(f"| {row['levels']}"))
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        assert cells[1] == f"{100 * row['effect']:+.1f} %"
        assert cells[2] == f"[{100 * row['low']:+.1f}, {100 * row['high']:+.1f}]"
        assert [cells[3], cells[4].split(" (")[0], cells[5]] == [
            row["at_low"],
            row["at_high"],
            row["verdict"],
        ]

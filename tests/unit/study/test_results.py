"""What a study's own rows say beside the report."""

from __future__ import annotations

from rocbench.report import write
from rocbench.study import results
from rocbench.study.agreement import PredictedLevel
from rocbench.tables.row import Row
from studycases import part, study

REPLAY = "replay-ablation-0.14.1"


def row(users, aiter, total, **more):
    """A row that replay voids."""
    return Row(
        {
            "key": f"llama-3.1-405b/replay-2048-512/c{users}",
            "concurrency": users,
            "aiter": aiter,
            "achieved_concurrency": 100,
            "total_token_throughput": total,
            "output_throughput": total / 4,
            "p99_e2el_ms": 1000.0,
            "reasons": "too_few_requests;count_bound",
            "valid": False,
            "predicted": True,
            **more,
        }
    )


ROWS = [row(100, arm, total) for arm, total in (("off", 99.0), ("off", 101.0), ("on", 110.0), ("on", 110.0))]


def test_void_figures_of_a_replay_are_shown_as_void():
    """Each level with its codes; AITER off and on beside one another; a failed server has none."""
    failed = row(200, "on", 0.0, output_throughput=None, reasons="server_failed")
    levels, arms = results.void(study().study, [(part(REPLAY), [*ROWS, failed])])
    assert len(levels.rows) == len(levels.bad) == 2
    assert all(cells[-1] == "VOID: too_few_requests" for cells in levels.rows)
    assert "100" in levels.rows[0]
    assert "(predicted)" in levels.rows[0][0]
    (arm,) = arms.rows
    assert "+10.0%" in arm
    assert "2, 2" in arm


def test_void_figures_of_other_methods_stay_withheld():
    """What voids them is a fault, and no property of the method."""
    assert results.void(study().study, [(part("corrected-ablation-0.14.1"), ROWS)]) == []


def test_a_studys_own_tables_are_written_beside_the_others(tmp_path):
    """In study.md, and as files."""
    tables = results.void(study().study, [(part(REPLAY), ROWS)])
    (tmp_path / "study").mkdir()
    write._study(tables, tmp_path, ("PREDICTED", "nothing ran"))
    assert "VOID: too_few_requests" in (tmp_path / "study.md").read_text()
    assert (tmp_path / "study" / "02-void-arms.csv").is_file()


def test_published_output_stands_beside_ours():
    """Where it was published."""
    tables = study().tables
    assert tables is not None
    level = PredictedLevel(tables.curves[0], 100, 1000.0, 1100.0, None, 250.0, None, 1.0, 99.0)
    table = results.published_levels([level])
    cells = dict(zip(table.header, *table.rows, strict=True))
    assert cells["published output tok/s"] == "-"
    assert cells["output tok/s"] == "250"

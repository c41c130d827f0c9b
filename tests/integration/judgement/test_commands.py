"""compare, ablate, gate, summary, history, query and merge as commands: output, refusals, exit codes."""

from __future__ import annotations

import io
import json
import shutil
import xml.etree.ElementTree as ET

import pandas as pd
import pytest

from rocbench.store.folder import RunFolder
from virtual import json_of


@pytest.fixture(name="real")
def _real(runs, tmp_path):
    """The base's rows as if they had been measured on hardware, as a cells file."""
    frame = pd.read_parquet(runs.base / "cells.parquet").assign(simulated=False, predicted=False)
    frame.to_csv(tmp_path / "real.csv", index=False)
    return tmp_path / "real.csv"


# --- compare


def test_equal_runs_are_the_same(command, runs):
    """A/A: every verdict is same or cannot tell, none better or worse; it says that nothing was measured."""
    said = command("compare", runs.base, runs.again)

    assert said.code == 0
    assert "same" in said.out
    assert "better" not in said.out
    assert "no GPU was measured" in said.out


def test_slower_is_worse(command, runs):
    """10 % slower: worse by name, and exit code 1."""
    said = command("compare", runs.base, runs.slower, "--metric", "output_throughput", "--format", "json")
    found = json.loads(said.out)

    assert said.code == 1
    assert [row["verdict"] for row in found["rows"]] == ["worse", "worse"]
    assert found["simulated"]
    assert -0.12 < found["rows"][0]["effect"] < -0.07
    assert found["rows"][0]["n_a"] == 5


def test_one_repeat_cannot_tell(command, runs):
    """n=1: nothing is decided, and the exit code says that too."""
    said = command("compare", runs.base, runs.single)

    assert said.code == 3
    assert "cannot tell" in said.out


def test_simulated_against_real_is_refused_with_the_reason(command, runs, real):
    """Both ways; the message names the difference, nothing is judged, exit code 2."""
    for sides in ((runs.base, real), (real, runs.base)):
        said = command("compare", *sides)
        assert said.code == 2
        assert said.out == ""
        assert "simulated rows do not measure a GPU" in said.err
        assert "--allow simulated" in said.err
    assert command("gate", runs.base, "--baseline", real).code == 2


def test_a_difference_can_be_allowed_by_name(command, runs, real):
    """--allow takes guards only, and the note stays in the output."""
    said = command("compare", runs.base, real, "--allow", "simulated", "--allow", "predicted")
    assert said.code == 0
    assert "allowed" in said.out
    said = command("compare", runs.base, real, "--allow", "everything")
    assert (said.code, "unknown guard" in said.err) == (2, True)


def test_formats(command, runs):
    """CSV and JSON parse, Markdown is a table; all have the same verdicts."""
    csv = pd.read_csv(io.StringIO(command("compare", runs.base, runs.slower, "--format", "csv").out))
    rows = json.loads(command("compare", runs.base, runs.slower, "--format", "json").out)["rows"]
    markdown = command("compare", runs.base, runs.slower, "--format", "md").out

    assert list(csv["verdict"]) == [row["verdict"] for row in rows]
    assert markdown.startswith("| ")
    assert markdown.splitlines()[1].startswith("|---")
    assert sum(line.startswith("| ") for line in markdown.splitlines()) == 1 + len(rows)


def test_arms_of_one_run(command, runs):
    """--arms compares two levels of a factor, the sweep's base first; levels can be named the other way."""
    said = command("compare", runs.arms, "--arms", "max_num_seqs", "--format", "json")
    found = json.loads(said.out)
    assert (found["a"], found["b"]) == ("max_num_seqs=256", "max_num_seqs=512")
    assert found["differs"] == {"--max-num-seqs": ["256", "512"]}
    turned = command("compare", runs.arms, "--arms", "max_num_seqs=512,256", "--format", "json")
    assert json.loads(turned.out)["a"] == "max_num_seqs=512"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("{base}",), "two sides"),
        (("{base}", "{again}", "--arms", "aiter"), "two sides"),
        (("{base}", "nowhere"), "no such run"),
        (("{base}", "{again}", "--metric", "model"), "cannot be compared"),
        (("{base}", "{again}", "--min-effect", "much"), "cannot read 'much'"),
        (("{arms}", "--arms", "aiter"), "aiter has 1 levels"),
        (("{arms}", "--arms", "nothing"), "no arm or column 'nothing'"),
        (("{arms}", "--arms", "max_num_seqs=256"), "NAME=BASE,LEVEL"),
        (("{arms}", "--arms", "max_num_seqs=256,1024"), "1024"),
        (("{base}", "{base}/plan.json"), "cells"),
    ],
)
def test_bad_input_is_refused(command, runs, words, message):
    """Each with its reason and exit code 2."""
    said = command(
        "compare",
        *(str(word).format(**{n: runs.root / n for n in ("base", "again", "arms")}) for word in words),
    )

    assert said.code == 2
    assert message in said.err


def test_a_folder_of_runs_is_one_side(command, runs, tmp_path):
    """Runs in a folder are pooled: their repeats count together."""
    for name in ("base", "again"):
        shutil.copytree(runs.root / name, tmp_path / "both" / name)
    said = command(
        "compare", tmp_path / "both", runs.slower, "--metric", "output_throughput", "--format", "json"
    )

    assert [row["n_a"] for row in json.loads(said.out)["rows"]] == [10, 10]


# --- ablate


def test_ablation_of_a_run(command, runs):
    """The sweep's factors are known: effect, interval, verdict and variability of the level."""
    said = command("ablate", runs.arms, "--format", "json")
    found = json.loads(said.out)

    assert said.code in {0, 3}
    assert found["factors"] == {"max_num_seqs": ["256", "512"]}
    assert {row["n"] for row in found["rows"]} == {4}
    assert {row["level"] for row in found["rows"]} == {"512"}
    assert "variability" in command("ablate", runs.arms).out


def test_ablation_names_what_the_servers_had_otherwise(command, runs, tmp_path):
    """Where the proof after start found another attention backend in one arm, the output says so."""
    shutil.copytree(runs.arms, tmp_path / "arms")
    for path in (tmp_path / "arms" / "parts" / "cells").glob("*.json"):
        row = json.loads(path.read_text())
        if "512" in row["axes"]:
            path.write_text(json.dumps(row | {"attention_backend": "OTHER"}))
    said = command("ablate", tmp_path / "arms")

    assert "also changes attention_backend" in said.out
    assert "from the server's own report" in said.out


def test_what_another_factor_changes_is_no_confusion(command, runs, tmp_path):
    """Of two factors one is named: the other's own doing stands in no note, for arms are judged at one level of it."""
    shutil.copytree(runs.arms, tmp_path / "arms")
    for path in (tmp_path / "arms" / "parts" / "cells").glob("*.json"):
        row = json.loads(path.read_text())
        for n, block_size in enumerate((16, 64)):
            axes = json.dumps(json.loads(row["axes"]) | {"block_size": block_size})
            cell = {"axes": axes, "block_size": block_size, "cell_id": f"{row['cell_id'][:-1]}{n}"}
            path.with_stem(f"{path.stem}-{n}").write_text(json.dumps(row | cell))
        path.unlink()
    said = command("ablate", tmp_path / "arms", "--format", "json")
    found = json.loads(said.out)
    assert {row["axis.block_size"] for row in found["rows"]} == {16, 64}
    assert not [note for note in found["notes"] if "block_size" in note]


def test_published_table(command):
    """What AITER's published table tells and what it does not, level by level; nothing told alone: exit code 3."""
    said = command("ablate", "--table", "aiter-llama-405b", "--format", "json")
    found = json.loads(said.out)

    assert said.code == 3
    assert [row["levels"] for row in found["rows"]] == [*"1 5 10 50 100 200 500".split(), "100, 200, 500"]
    assert {row["verdict"] for row in found["rows"]} == {"cannot tell"}
    assert found["spread"] == "more variable"
    text = command("ablate", "--table", "aiter-llama-405b").out
    assert "these levels repeat one condition" in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "runs or --table is needed"),
        (("{base}", "--table", "x"), "runs or --table is needed"),
        (("{base}",), "no factors"),
        (("{base}", "--factor", "aiter"), "NAME=BASE,LEVEL"),
        (("--table", "no-such"), "no published named"),
    ],
)
def test_bad_ablations_are_refused(command, runs, words, message):
    """Each with its reason and exit code 2."""
    said = command("ablate", *(word.format(base=runs.base) for word in words))

    assert said.code == 2
    assert message in said.err


# --- gate


def test_a_regression_fails_the_gate_and_names_its_cells(command, runs, tmp_path):
    """10 % slower: exit code 1; JUnit parses and counts, Markdown shows the cells."""
    junit, markdown = tmp_path / "ci" / "gate.xml", tmp_path / "ci" / "gate.md"
    said = command("gate", runs.slower, "--baseline", runs.base, "--junit", junit, "--markdown", markdown)

    assert said.code == 1
    assert "concurrency=2" in said.out
    assert "concurrency=8" in said.out
    suite = ET.parse(junit).getroot().find("testsuite")
    assert int(suite.get("failures")) >= 2
    assert len(suite.findall("testcase/failure")) == int(suite.get("failures"))
    text = markdown.read_text()
    assert "**regression**" in text
    assert "no GPU was measured" in text


def test_equal_runs_pass_the_gate(command, runs):
    """A/A: exit code 0."""
    said = command("gate", runs.again, "--baseline", runs.base)

    assert said.code == 0, said.out
    assert "gate: pass" in said.out


def test_one_repeat_cannot_be_gated(command, runs, tmp_path):
    """n=1: exit code 3, told apart from a pass and from an error; the policy can make it either."""
    assert command("gate", runs.single, "--baseline", runs.base).code == 3
    for policy, code in (("pass", 0), ("fail", 1), ("report", 3)):
        rules = tmp_path / f"{policy}.yaml"
        rules.write_text(f"cannot_tell: {policy}\n")
        assert command("gate", runs.single, "--baseline", runs.base, "--rules", rules).code == code


def test_limits_need_no_baseline(command, runs, tmp_path):
    """SLO limits beside relative rules, or alone."""
    rules = tmp_path / "gate.yaml"
    rules.write_text("relative: []\nlimits: [median_ttft_ms <= 2000, {limit: success_rate >= 0.999}]\n")
    assert command("gate", runs.base, "--rules", rules).code == 0
    rules.write_text("relative: []\nlimits: [median_ttft_ms <= 1]\n")
    assert command("gate", runs.base, "--rules", rules).code == 1
    assert json.loads(command("gate", runs.base, "--rules", rules, "--json").out)["outcome"] == "regression"


def test_latest_is_the_run_before(command, runs, tmp_path):
    """`latest` takes the newest earlier run of the same sweep; without one the gate cannot tell."""
    for day, name in enumerate(("base", "again", "slower"), start=1):
        shutil.copytree(runs.root / name, tmp_path / name)
        manifest = json_of(tmp_path / name, "manifest.json") | {"begun_at": f"2026-01-0{day}T00:00:00"}
        (tmp_path / name / "manifest.json").write_text(json.dumps(manifest))

    said = command("gate", tmp_path / "base", "--baseline", "latest", "--junit", tmp_path / "first.xml")
    assert said.code == 3
    assert "no earlier run" in said.out
    assert ET.parse(tmp_path / "first.xml").getroot().get("skipped") == "3"
    assert command("gate", tmp_path / "again", "--baseline", "latest").code == 0
    assert command("gate", tmp_path / "slower", "--baseline", "latest").code == 1


def test_a_run_is_not_compared_with_itself(command, runs, tmp_path):
    """It is left out of a folder of runs on the other side, aloud; the same run on both sides is refused."""
    for name in ("base", "again"):
        shutil.copytree(runs.root / name, tmp_path / name)
    for sides in ((tmp_path, tmp_path / "again"), (tmp_path / "again", tmp_path)):
        found = json.loads(command("compare", *sides, "--format", "json").out)
        assert {(row["n_a"], row["n_b"]) for row in found["rows"]} == {(5, 5)}
        assert "also contains" in found["notes"][0]
    said = command("compare", runs.base, runs.base)
    assert (said.code, "the same run" in said.err) == (2, True)


def test_a_run_is_no_baseline_of_itself(command, runs, tmp_path):
    """It is left out of a folder of runs, aloud; alone it is refused."""
    for name in ("base", "again"):
        shutil.copytree(runs.root / name, tmp_path / name)
    found = json.loads(command("gate", tmp_path / "again", "--baseline", tmp_path, "--json").out)
    assert "n=5 and 5" in found["items"][0]["detail"]
    assert "also contains" in found["notes"][0]
    said = command("gate", tmp_path / "again", "--baseline", tmp_path / "again")
    assert (said.code, "the run itself" in said.err) == (2, True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("limits: [median_ttft_ms < fast]", "not a limit such as"),
        ("relative: [{metric: model}]", "not a result"),
        ("relative: [{metric: output_throughput, worse_by: 5}]", "for example, 5%"),
        ("relativ: []", "did you mean 'relative'"),
        ("relative: [{metric: output_throughput, where: {model: other}}]", "no cell"),
        ("relative: []\nlimits: [model <= 3]", "model is not a number"),
    ],
)
def test_bad_rules_are_refused(command, runs, tmp_path, text, message):
    """A fault in gate.yaml is bad input, not a regression."""
    rules = tmp_path / "gate.yaml"
    rules.write_text(text)
    said = command("gate", runs.again, "--baseline", runs.base, "--rules", rules)

    assert said.code == 2
    assert message in said.err


def test_a_gate_without_a_baseline_says_so(command, runs):
    """Relative rules and no --baseline: bad input."""
    said = command("gate", runs.base)

    assert said.code == 2
    assert "baseline" in said.err


# --- summary, history, query


def test_summary(command, runs):
    """One line per cell and metric with mean, interval, CoV and n; as CSV too; saturation below."""
    said = command("summary", runs.base)
    assert said.code == 0
    assert "PREDICTED" in said.out
    assert "saturation" in said.out
    frame = pd.read_csv(
        io.StringIO(command("summary", runs.base, "--metric", "output_throughput", "--csv").out)
    )
    assert list(frame["n"]) == [5, 5]
    assert (frame["low"] < frame["mean"]).all()
    assert "out tok/s" in command("summary", runs.base, "--end-table").out
    assert command("summary", runs.base, "--metric", "nothing").code == 2
    assert command("summary", runs.base, "--metric", "model").code == 2


def test_history_shows_a_change_point(command, runs, tmp_path):
    """Ten nights, the last five 10 % slower: one change point where it happened, and that the cell was another."""
    for day in range(10):
        source = runs.base if day < 5 else runs.slower
        target = tmp_path / f"night{day}"
        shutil.copytree(source, target)
        manifest = json_of(target, "manifest.json") | {"begun_at": f"2026-01-{day + 1:02d}T00:00:00"}
        (target / "manifest.json").write_text(json.dumps(manifest))
        for path in (target / "parts" / "cells").glob("*.json"):
            row = json.loads(path.read_text())
            row["output_throughput"] *= 1 + 0.0005 * (day * 7 % 5)
            path.write_text(json.dumps(row))

    said = command("history", "--results", tmp_path, "--csv")
    frame = pd.read_csv(io.StringIO(said.out))
    assert list(frame.groupby("key")["run"].count()) == [10, 10]
    moved = frame[frame["change"].notna()]
    assert set(moved["run"]) == {"night5"}
    assert ((moved["change"] < -0.07) & (moved["change"] > -0.12)).all()
    assert set(frame[frame["changed"]]["run"]) == {"night5"}  # the slower server is another configuration
    shown = command("history", "--results", tmp_path, "--key", "llama-3.1-405b/short/c8").out
    assert shown.count("change point") == 1
    assert shown.count("configuration changed") == 1
    assert command("history", "--results", tmp_path, "--metric", "nothing").code == 2
    assert command("history", "--results", tmp_path, "--metric", "model").code == 2
    assert command("history", "--results", tmp_path, "--model", "other").code == 2


def test_query(command, runs):
    """SQL over the rows of all runs and their requests."""
    sql = "select run, count(*) as n from cells where valid group by run order by run"
    frame = pd.read_csv(io.StringIO(command("query", sql, "--results", runs.root, "--csv").out))
    assert dict(zip(frame["run"], frame["n"], strict=True))["base"] == 10

    joined = "select c.key, count(*) as requests from cells c join requests using (run_id, cell_id, repeat) group by 1"
    frame = pd.read_csv(io.StringIO(command("query", joined, "--results", runs.base, "--csv").out))
    assert len(frame) == 2
    assert (frame["requests"] > 10).all()
    assert command("query", "select nothing from nowhere", "--results", runs.base).code == 2


def test_merge_as_a_command(command, runs, tmp_path):
    """The merged folder is a run like any other."""
    said = command("merge", runs.base, "--out", tmp_path / "merged")

    assert said.code == 0
    assert len(RunFolder.open(tmp_path / "merged").rows) == 10


# --- sweep


def test_resume_takes_nothing_else(command, runs):
    """--resume with a sweep, a level or a setting is refused: the plan is in the folder."""
    for words in (
        ("quick",),
        ("--concurrency", "1"),
        ("--set", "block_size=1"),
        ("--shard", "1/2"),
        ("--seed", "3"),
    ):
        said = command("sweep", *words, "--resume", runs.base)
        assert said.code == 2
        assert "from the run folder" in said.err
    assert command("sweep", "--resume", runs.base, "--dry-run").code == 0


def test_a_plan_shows_its_search_and_notes(command, tmp_path):
    """What a search looks for and what an arm also brings stand in the plan."""
    sweep = {
        "name": "shown",
        "vllm": "0.14.1",
        "models": ["llama-3.1-405b"],
        "workloads": ["short"],
        "search": {"slo": {"p99_ttft_ms": 2000}, "high": 512},
    }
    (tmp_path / "search.yaml").write_text(json.dumps(sweep))
    said = command("plan", tmp_path / "search.yaml")
    assert "the maximum users between 1 and 512 that meets p99_ttft_ms <= 2000" in said.out

    arms = {k: v for k, v in sweep.items() if k != "search"} | {
        "concurrency": [1],
        "factors": {"aiter": ["off", "on"]},
    }
    (tmp_path / "arms.yaml").write_text(json.dumps(arms))
    assert "also selects attention_backend" in " ".join(command("plan", tmp_path / "arms.yaml").out.split())


def test_a_plan_says_what_its_repeats_can_tell(command, runs, tmp_path):
    """By a stated CoV; else the CoV that it takes: predicted rows are not the spread of a server."""
    sweep = RunFolder.open(runs.base).whole_plan()["sweep"]
    (tmp_path / "again.yaml").write_text(json.dumps(sweep))
    said = command("plan", tmp_path / "again.yaml", "--cov", "1%", "--effect", "3%")
    assert "5 repeats of 2 cells can tell a change of" in said.out
    assert "at the stated CoV of 1.0%" in said.out
    said = command("plan", tmp_path / "again.yaml", "--earlier", tmp_path)
    assert (
        "no earlier run shows the spread of output_throughput in these cells; state it with --cov" in said.out
    )
    assert command("plan", tmp_path / "again.yaml", "--cov", "x%").code == 2

"""scripts/nightly: the order of its steps, when it resumes, and its exit code. `bench` is a stand-in that notes its calls."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]

BENCH = """#!/bin/sh
# Notes each call; ends a command with the next code of its list.
command=$1
echo "$*" >>"$CALLS"
if [ "$command" = sweep ]; then
  case $2 in --resume) run=$3 ;; *) run=$4 ;; esac
  mkdir -p "$run"
  echo '{}' >"$run/manifest.json"
fi
if [ "$command" = sweep ] && [ -n "${SLOW:-}" ]; then
  trap 'echo "ended" >>"$CALLS"; exit 130' TERM
  echo "$$" >"$SLOW"
  while :; do sleep 0.1; done
fi
codes=$(cat "$CODES/$command" 2>/dev/null)
set -- $codes
code=${1:-0}
[ $# -le 1 ] || { shift; echo "$*" >"$CODES/$command"; }
exit "$code"
"""


@pytest.fixture(name="nightly")
def _nightly(tmp_path):
    """Runs scripts/nightly with exit codes for each command; gives its code and the calls."""
    bench, codes = tmp_path / "bench", tmp_path / "codes"
    bench.write_text(BENCH)
    bench.chmod(0o755)
    codes.mkdir()

    def run(*words, env=None, **ends):
        for name, code in ends.items():
            (codes / name).write_text(str(code))
        calls = tmp_path / "calls"
        calls.unlink(missing_ok=True)
        given = {
            "BENCH": str(bench),
            "CALLS": str(calls),
            "CODES": str(codes),
            "NIGHTLY_RUN": str(tmp_path / "results" / "night"),
        }
        done = subprocess.run(
            [str(ROOT / "scripts" / "nightly"), *words],
            env=os.environ | given | (env or {}),
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        return done.returncode, calls.read_text().splitlines()

    return run


def test_the_steps_in_their_order(nightly, tmp_path):
    """Doctor, sweep, report, gate against the run before; everything passed is 0."""
    code, calls = nightly("mysweep.yaml", "--only", "llama*", doctor=4)
    night = tmp_path / "results" / "night"

    assert code == 0
    assert calls == [
        "doctor --json",
        f"sweep mysweep.yaml --out {night} --reap --only llama*",
        f"report {night}",
        f"gate {night} --baseline latest --junit {night}/gate.xml --markdown {night}/gate.md",
    ]


def test_a_second_start_resumes(nightly, tmp_path):
    """The same night started again goes on where it was."""
    nightly()
    _, calls = nightly()

    assert calls[1] == f"sweep --resume {tmp_path}/results/night --reap"


def test_invalid_rows_get_a_second_chance(nightly):
    """A sweep with invalid rows is resumed once; when they are valid then, the night passes."""
    code, calls = nightly(sweep="1 0")
    assert code == 0
    assert ["--resume" in call for call in calls if call.startswith("sweep")] == [False, True]


@pytest.mark.parametrize(
    ("sweep", "gate", "code"),
    [(0, 0, 0), (0, 1, 1), (0, 3, 3), (0, 2, 2), ("1 1", 0, 1), ("1 1", 3, 1), ("1 1", 1, 1), (0, 4, 4)],
)
def test_exit_codes(nightly, sweep, gate, code):
    """A regression is 1, cannot tell 3; an invalid row is 1 also where the gate passes."""
    assert nightly(sweep=sweep, gate=gate)[0] == code


@pytest.mark.parametrize("code", [2, 4, 130])
def test_a_sweep_that_could_not_be_made_ends_the_night(nightly, code):
    """Bad input, a busy node and an interrupt are passed on; nothing is judged."""
    ended, calls = nightly(sweep=code)

    assert ended == code
    assert [call.split()[0] for call in calls] == ["doctor", "sweep"]


def test_a_report_that_fails_does_not_hide_the_gate(nightly):
    """The report is for people; the gate decides."""
    assert nightly(report=4, gate=1)[0] == 1


def test_settings_by_the_environment(nightly, tmp_path):
    """Baseline, rules, results folder and attempts."""
    env = {
        "NIGHTLY_RUN": "",
        "NIGHTLY_RESULTS": str(tmp_path / "nights"),
        "NIGHTLY_BASELINE": "golden",
        "NIGHTLY_RULES": "gate.yaml",
        "NIGHTLY_ATTEMPTS": "1",
    }
    code, calls = nightly("configs/mine.yaml", env=env, sweep=1)

    assert code == 1
    assert len([call for call in calls if call.startswith("sweep")]) == 1
    assert "--baseline golden" in calls[-1]
    assert calls[-1].endswith("--rules gate.yaml")
    (night,) = (tmp_path / "nights").iterdir()
    assert night.name.endswith("-mine")


def test_the_example_workflow_is_whole():
    """It parses and runs the nightly, and it is no workflow of this repository: there is no node for it here."""
    import yaml

    examples = ROOT / "docs" / "examples"
    workflow = yaml.safe_load((examples / "nightly.yml").read_text())
    assert "scripts/nightly" in str(workflow["jobs"]["bench"]["steps"])
    assert not (ROOT / ".github" / "workflows" / "nightly.yml").exists()


def test_the_job_script_resumes_and_requeues(tmp_path):
    """A shard begins, goes on when its folder is there, and is queued again when Slurm's signal comes."""
    calls = tmp_path / "calls"
    for name, body in (
        ("bench", 'trap "exit 130" TERM; echo "bench $*" >>"$CALLS"; [ -z "$SLOW" ] || { sleep 60 & wait; }'),
        ("scontrol", 'echo "scontrol $*" >>"$CALLS"'),
    ):
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    env = os.environ | {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "CALLS": str(calls),
        "SLURM_ARRAY_JOB_ID": "77",
        "SLURM_ARRAY_TASK_ID": "2",
        "SLURM_ARRAY_TASK_COUNT": "4",
        "SLURM_JOB_ID": "79",
        "SLOW": "",
    }
    script = ["sh", str(ROOT / "scripts" / "slurm" / "sweep.sbatch"), "nightly"]
    assert subprocess.run(script, env=env, cwd=tmp_path, check=False, timeout=60).returncode == 0
    assert calls.read_text() == "bench sweep nightly --out results/77/shard-2 --shard 2/4 --reap\n"

    (tmp_path / "results" / "77" / "shard-2").mkdir(parents=True)
    (tmp_path / "results" / "77" / "shard-2" / "manifest.json").write_text("{}")
    calls.unlink()
    process = subprocess.Popen(script, env=env | {"SLOW": "1"}, cwd=tmp_path)
    while not calls.exists():
        pass
    process.terminate()
    assert process.wait(60) == 130
    assert calls.read_text().splitlines() == [
        "bench sweep --resume results/77/shard-2 --reap",
        "scontrol requeue 79",
    ]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_to_the_script_alone(tmp_path, nightly, number):
    """The sweep is ended and waited for: no bench is left, and nothing is judged."""
    slow = tmp_path / "slow"

    def signalled() -> None:
        while not slow.exists() or not slow.read_text().strip():
            time.sleep(0.02)
        os.kill(
            int(Path(f"/proc/{slow.read_text().strip()}/stat").read_text().rpartition(")")[2].split()[1]),
            number,
        )

    thread = threading.Thread(target=signalled)
    thread.start()
    code, calls = nightly("quick", env={"SLOW": str(slow)})
    thread.join()
    assert code == 130
    assert [call.split()[0] for call in calls] == ["doctor", "sweep", "ended"]

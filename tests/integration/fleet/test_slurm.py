"""The job script on a real Slurm of one machine: an array of shards on simulated servers, merged to the whole plan.

Needs Slurm (Debian and Ubuntu: slurmctld, slurmd, slurm-client) and root. Where one lacks, the test says so, and the
script is checked as text.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

import sweeps

ROOT = Path(__file__).parents[3]
SCRIPT = ROOT / "scripts" / "slurm" / "sweep.sbatch"
SHARDS = 2


def lacking() -> str:
    """Why no Slurm can be started here; empty when it can."""
    programs = ("slurmctld", "slurmd", "sbatch", "squeue")
    missing = [
        name for name in programs if shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin") is None
    ]
    if missing:
        return f"Slurm is not installed ({', '.join(missing)}); the job script was only checked as text"
    return "" if os.geteuid() == 0 else "Slurm's daemons need root; the job script was only checked as text"


def configuration(folder: Path, ports: tuple[int, int]) -> str:
    """slurm.conf of a cluster of this machine alone, on loopback, that says it has 8 GPUs."""
    return f"""
ClusterName=one
SlurmctldHost={socket.gethostname()}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SlurmUser=root
AuthType=auth/none
CredType=cred/none
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
SchedulerParameters=sched_interval=1
ReturnToService=2
GresTypes=gpu
NodeName={socket.gethostname()} NodeAddr=127.0.0.1 CPUs={os.cpu_count()} Gres=gpu:8 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO
"""


def free_port() -> int:
    """A port of loopback that nobody has."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.fixture
def slurm(tmp_path) -> Iterator[dict[str, str]]:
    """A running Slurm; what its commands need in their environment."""
    why = lacking()
    if why:
        pytest.skip(why)
    folder = tmp_path / "slurm"
    for name in ("state", "spool"):
        (folder / name).mkdir(parents=True)
    (folder / "slurm.conf").write_text(configuration(folder, (free_port(), free_port())))
    for gpu in range(8):
        (folder / f"gpu{gpu}").symlink_to("/dev/null")  # any device will do for what is only counted
    (folder / "gres.conf").write_text(f"NodeName={socket.gethostname()} Name=gpu File={folder}/gpu[0-7]\n")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}:/usr/sbin"
    env = os.environ | {"SLURM_CONF": str(folder / "slurm.conf"), "PATH": path}
    with contextlib.ExitStack() as stack:
        for command in (["slurmctld", "-D"], ["slurmd", "-D"]):
            daemon = subprocess.Popen(
                command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
            )
            stack.callback(daemon.wait, 30)
            stack.callback(daemon.terminate)

        def idle() -> bool:
            found = subprocess.run(
                ["sinfo", "-h", "-o", "%t"], env=env, capture_output=True, text=True, check=False
            )
            return found.stdout.strip() == "idle"

        sweeps.wait_until(idle, timeout=60)
        yield env


@pytest.mark.slow
def test_an_array_on_a_real_slurm_merges_to_the_whole_plan(slurm, tmp_path):
    """Two array tasks run the shards of a sweep; `bench merge` has every cell of the unsharded plan once."""
    bench = sweeps.Bench(tmp_path, {"ROCBENCH_STATE": str(tmp_path / "state")})
    models = ["llama-3.1-405b", "deepseek-v3.2", "qwen3-vl-235b"]
    path = bench.write(sweeps.sweep(models, concurrency=[2, 4], simulation={"load_s": 0.1}))
    state = {"ROCBENCH_STATE": str(tmp_path / "state"), "ROCBENCH_CACHE": str(tmp_path / "cache")}
    env = slurm | state
    command = ["sbatch", "--parsable", f"--array=1-{SHARDS}", "--time=60", str(SCRIPT), path]
    job = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, check=True)
    number = job.stdout.strip()

    def over() -> bool:
        asked = ["squeue", "-h", "-j", number]
        return not subprocess.run(asked, env=env, capture_output=True, text=True, check=False).stdout.strip()

    sweeps.wait_until(over, timeout=300)
    shards = sorted((tmp_path / "results" / number).glob("shard-*"))
    assert len(shards) == SHARDS, "\n".join(log.read_text() for log in tmp_path.glob("bench-*.log"))
    merged = bench.run("merge", *map(str, shards), "--out", str(tmp_path / "merged"))
    assert merged.code == 0, merged.stderr
    rows = pd.read_parquet(tmp_path / "merged" / "cells.parquet")
    planned = bench.run("plan", path)
    cells = set(re.findall(r"\b[0-9a-f]{12}\b", planned.stdout))
    assert set(rows["cell_id"]) == cells
    assert len(rows) == len(cells) == 6
    assert (rows["completed"] > 0).all()
    assert all(len(pd.read_parquet(shard / "cells.parquet")) for shard in shards)


def test_the_job_script_is_sound_as_text():
    """It parses, asks for whole nodes, and names its shard by what an array gives."""
    text = SCRIPT.read_text()
    assert subprocess.run(["sh", "-n", str(SCRIPT)], check=False).returncode == 0
    assert "#SBATCH --exclusive" in text
    assert "#SBATCH --nodes=1" in text
    assert "$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT" in text
    assert not re.search(
        r"`[^`]*`", "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    )

"""The Kubernetes manifest, as text: an indexed Job whose pods run the shards of one plan."""

from __future__ import annotations

import subprocess
from pathlib import Path

import yaml

MANIFEST = Path(__file__).parents[3] / "docs" / "examples" / "k8s-indexed-job.yaml"


def test_every_pod_runs_one_shard():
    """As many shards as completions, a shell that parses, and a pod alone on its node."""
    job = yaml.safe_load(MANIFEST.read_text())
    spec = job["spec"]
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    env = {entry["name"]: entry.get("value") for entry in container["env"]}
    assert job["kind"] == "Job"
    assert spec["completionMode"] == "Indexed"
    assert int(env["SHARDS"]) == spec["completions"] == spec["parallelism"]
    assert "podAntiAffinity" in pod["affinity"]
    assert subprocess.run(["sh", "-n", "-c", container["args"][0]], check=False).returncode == 0

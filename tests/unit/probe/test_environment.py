"""The node's description: facts that affect a result, and no secret."""

import json
import subprocess

from rocbench.probe import amd_smi, environment


def test_no_secret_and_only_what_decides():
    """Variables are those of an allow-list, without those with a secret name."""
    environ = {
        "VLLM_ROCM_USE_AITER": "1",
        "HIP_VISIBLE_DEVICES": "0",
        "NCCL_MIN_NCHANNELS": "112",
        "VLLM_API_KEY": "k-planted",
        "HF_TOKEN": "hf_planted",
        "HOME": "/home/x",
        "MY_PASSWORD": "planted",
    }

    kept = environment.variables(environ)

    assert kept == {"HIP_VISIBLE_DEVICES": "0", "NCCL_MIN_NCHANNELS": "112", "VLLM_ROCM_USE_AITER": "1"}


def test_the_code_is_known_by_its_files_and_its_commit(tmp_path):
    """Any change of a file changes the hash; the commit is that of rocbench's checkout, not of another one around it."""
    package = tmp_path / "src" / "rocbench"
    package.mkdir(parents=True)
    (package / "stats.py").write_text("ALPHA = 0.05\n")
    installed = environment.code(package)
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "one"]):
        subprocess.run([*git, *words], check=True)
    committed = environment.code(package)
    (package / "stats.py").write_text("ALPHA = 0.1\n")
    changed = environment.code(package)

    assert set(installed) == {"sha256"}
    assert (committed["sha256"], committed["changed"]) == (installed["sha256"], False)
    assert len(committed["commit"]) == 40
    assert changed == {"sha256": changed["sha256"], "commit": committed["commit"], "changed": True}
    assert changed["sha256"] != installed["sha256"]


def test_gpus_of_both_shapes(amd_smi_on_path, shape):
    """Identity, VBIOS, power cap, partitions and firmware of each GPU are in it; serial numbers are not."""
    described = environment.collect()["gpus"]

    assert len(described) == 8
    assert described[3] == {
        "gpu": 3,
        "name": "AMD Instinct MI325X",
        "gfx": "gfx942",
        "device_id": "0x74a5",
        "compute_units": 304,
        "vbios": "022.040.003.043.000001",
        "power_cap_w": 1000,
        "vram_mib": 262128,
        "compute_partition": "SPX",
        "memory_partition": "NPS1",
        "numa_node": 0,
        "driver": "6.10.5" if shape == "rocm6" else "6.16.6",
        "pci": "0000:35:00.0",
        "mec_firmware": "177",
    }
    assert "DEADBEEF" not in json.dumps(described)


def test_machine_without_a_gpu(no_amd_smi):
    """Without a GPU the list is empty, and the host is still described."""
    described = environment.collect()

    assert described["gpus"] == []
    assert described["host"]["cpus"] >= 1
    assert described["host"]["memory_bytes"] > 0
    json.dumps(described)


def test_host_from_files(tmp_path):
    """Kernel parameters by an allow-list, versions from their files, without absent files."""
    for name, text in {
        "proc/cmdline": "root=UUID=1 iommu=pt pci=realloc=off password=planted processor.max_cstate=1",
        "proc/cpuinfo": "processor : 0\nmodel name : AMD EPYC 9575F\n\nprocessor : 1\nmodel name : AMD EPYC 9575F\n",
        "opt/rocm/.info/version": "7.0.2-56\n",
        "opt/rocm/include/rccl/rccl.h": "#define NCCL_MAJOR 2\n#define NCCL_MINOR 26\n#define NCCL_PATCH 6\n",
        "sys/module/amdgpu/version": "6.16.6\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)

    host = environment.host(tmp_path)

    assert host["cmdline"] == "iommu=pt pci=realloc=off processor.max_cstate=1"
    assert (host["cpu"], host["cpus"]) == ("AMD EPYC 9575F", 2)
    assert "governor" not in host
    assert environment.rocm(tmp_path) == {"rocm": "7.0.2-56", "driver": "6.16.6", "rccl": "2.26.6"}


def test_firmware_by_either_name():
    """The compute firmware is found by both names that versions use."""
    old = [
        {
            "gpu": 0,
            "fw_list": [{"fw_id": "RLC", "fw_version": "1"}, {"fw_id": "CP_MEC1", "fw_version": "177"}],
        }
    ]
    new = [{"gpu": 1, "fw_list": [{"fw_name": "CP_MEC1", "fw_version": "180"}]}]

    assert environment.mec_firmware(old + new) == {0: "177", 1: "180"}
    assert environment.mec_firmware(None) == {}
    assert amd_smi.leaf({"a": "N/A"}, "a") is None


def test_firmware_that_is_not_told():
    """A list or a version that is N/A is absent."""
    unread = {"fw_list": [{"fw_name": "CP_MEC1", "fw_version": "N/A"}]}
    assert environment.mec_firmware([{"gpu": 0, "fw_list": "N/A"}, {"gpu": 1} | unread]) == {}

"""The node checks, against an idle MI325X node, sick ones, and a machine without a GPU."""

import contextlib
import resource

import pytest
import typer

from rocbench.commands import node as commands
from rocbench.probe import doctor
from rocbench.probe.checks import Check

NONE_LEFT = Check("left_servers", "must", "pass", "none", "none")


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    """No orphans except those of the test."""
    monkeypatch.setenv("ROCBENCH_STATE", str(tmp_path / "state"))


@pytest.fixture
def node(tmp_path):
    """The files of a well-configured host."""
    root = tmp_path / "root"
    files = {
        "dev/kfd": "",
        "dev/shm/x": "",
        "proc/sys/kernel/numa_balancing": "0\n",
        "proc/cmdline": "root=/dev/sda1 iommu=pt pci=realloc=off quiet\n",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "performance\n",
        "sys/devices/system/cpu/cpu0/cpuidle/state1/name": "C1\n",
        "sys/devices/system/cpu/cpu0/cpuidle/state1/disable": "0\n",
        "sys/devices/system/cpu/cpu0/cpuidle/state2/name": "C2\n",
        "sys/devices/system/cpu/cpu0/cpuidle/state2/disable": "1\n",
        "sys/kernel/mm/transparent_hugepage/enabled": "always [madvise] never\n",
        "opt/rocm/.info/version": "7.0.2-56\n",
    }
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def by_id(root, **more):
    """Checks by id."""
    return {check.id: check for check in doctor.examine(root, left_servers=NONE_LEFT, environs=[{}], **more)}


def test_healthy_node(amd_smi_on_path, node):
    """On a healthy node every check of the GPUs and the kernel has a value and passes."""
    checks = by_id(node)

    statuses = {
        id_: check.status for id_, check in checks.items() if check.source != "" or check.need == "must"
    }
    limits = {"memlock", "shared_memory", "stack", "open_files"}  # of the machine that runs the test
    by_hand = {"rccl_tests", "transferbench", "rvs"}
    assert {id_ for id_, status in statuses.items() if status != "pass"} <= limits | by_hand
    assert checks["gpus"].found == "8 x AMD Instinct MI325X"
    assert checks["vbios"].found == "022.040.003.043.000001"
    assert checks["power_cap"].found == "1000"
    assert checks["partitions"].found == "SPX/NPS1 (8)"
    assert checks["mec_firmware"].found == "177"
    assert checks["rocm"].found == "rocm 7.0.2-56"
    assert all(not check.fix for check in checks.values() if check.status == "pass")


@pytest.mark.parametrize(
    ("question", "old", "new", "check", "found"),
    [
        (
            "process",
            '"No running processes detected"',
            '{"name":"train.py","pid":4711}',
            "gpu_processes",
            "train.py (pid 4711) on GPU 0",
        ),
        ("metric", '"used_vram":{"value":297', '"used_vram":{"value":131064', "vram_baseline", "GPU 0: 50 %"),
        ("metric", '"total_uncorrectable_count":0', '"total_uncorrectable_count":2', "ecc", "GPU 0: 2"),
        ("metric", '"replay_count":0', '"replay_count":9', "links", "GPU 0: 9"),
        ("static", '"SPX"', '"CPX"', "partitions", "CPX/NPS1 (1), SPX/NPS1 (7)"),
        ("static", '"gfx942"', '"gfx90a"', "gfx", "gfx90a (1), gfx942 (7)"),
        (
            "static",
            "043.000001",
            "043.000009",
            "vbios",
            "022.040.003.043.000009 (1), 022.040.003.043.000001 (7)",
        ),
        (
            "firmware",
            '"CP_MEC1","fw_version":"177"',
            '"CP_MEC1","fw_version":"155"',
            "mec_firmware",
            "155, 177",
        ),
    ],
)
def test_sick_gpu(amd_smi_on_path, answers, node, question, old, new, check, found):
    """One faulty or different GPU fails its check, is named, and stops a nightly run."""
    answers(question, old, new, 1)

    checks = by_id(node)

    assert (checks[check].status, checks[check].need) == ("fail", "must")
    assert checks[check].found.startswith(found)
    assert checks[check].fix
    assert check in [failed.id for failed in doctor.failed_musts(checks.values())]


@pytest.mark.parametrize(
    ("device", "name", "profile"),
    [
        ("0x74a5", "AMD Instinct MI325X", "mi325x"),
        ("0x74a2", "N/A", "mi308x"),
        ("0x75a0", "AMD Instinct MI350X OAM", "mi350x"),
        ("0x75A3", "N/A", "mi355x"),
        ("N/A", "AMD Instinct MI350X", "mi350x"),
    ],
)
def test_gpus_are_recognised(amd_smi_on_path, answers, node, device, name, profile):
    """By their PCI device id, or by their name where the id is missing or another one."""
    answers("static", '"device_id":"0x74a5"', f'"device_id":"{device}"')
    answers("static", '"market_name":"AMD Instinct MI325X"', f'"market_name":"{name}"')
    check = by_id(node)["profile"]
    assert (check.status, check.need, check.found, check.fix) == ("pass", "record", profile, "")


def test_an_unknown_gpu_has_no_profile(amd_smi_on_path, answers, node):
    """It is named with its id; GPUs of two profiles are no profile either."""
    answers("static", '"device_id":"0x74a5"', '"device_id":"0x74ff"')
    answers("static", '"market_name":"AMD Instinct MI325X"', '"market_name":"AMD Instinct MI999"', 1)
    check = by_id(node)["profile"]
    assert (check.status, check.found) == (
        "unknown",
        "no hardware profile for AMD Instinct MI999 (0x74ff) (1)",
    )
    assert check.fix.startswith("use a profile of the same GPU")
    answers("static", '"market_name":"AMD Instinct MI999"', '"market_name":"AMD Instinct MI350X"')
    assert by_id(node)["profile"].found == "mi325x, mi350x"


def test_retired_pages(amd_smi_on_path, answers, node, shape):
    """Retired memory pages fail their check; the text for "none" does not."""
    old = '"retired":"No bad pages found."' if shape == "rocm6" else '"retired":[]'
    answers("bad-pages", old, '"retired":[{"page_address":"0x1","page_size":"4096","status":"RESERVED"}]', 1)

    assert by_id(node)["bad_pages"].found == "GPU 0: 1"


@pytest.mark.parametrize(
    ("question", "old", "new", "check"),
    [
        ("metric", '"ecc":{', '"ecc":"N/A","was":{', "ecc"),
        ("metric", '"mem_usage":{', '"mem_usage":"N/A","was":{', "vram_baseline"),
        ("metric", '"pcie":{', '"pcie":"N/A","was":{', "links"),
        ("metric", '"perf_level":', '"was":', "perf_level"),
        ("metric", '"gpu":0,', '"gpu":"N/A",', "ecc"),
        ("bad-pages", '"retired":', '"was":', "bad_pages"),
        ("bad-pages", '"gpu":0,"retired":', '"gpu":0,"retired":"N/A","was":', "bad_pages"),
        ("process", '"No running processes detected"', '"N/A"', "gpu_processes"),
        ("firmware", '"CP_MEC1","fw_version":"177"', '"CP_MEC1","fw_version":"N/A"', "mec_firmware"),
        ("static", '"gfx942"', '"N/A"', "gfx"),
        ("static", '"SPX"', '"N/A"', "partitions"),
    ],
)
def test_gpu_that_does_not_tell(amd_smi_on_path, answers, node, question, old, new, check):
    """A missing value of one GPU makes the check unknown, and the GPU is named."""
    answers(question, old, new, 1)

    found = by_id(node)[check]

    assert (found.status, found.found.rpartition("; ")[2]) == ("unknown", "not reported by GPU 0")
    assert found.fix.startswith(("run amd-smi", "export HSA_NO"))


def test_no_gpu_tells(amd_smi_on_path, answers, node):
    """A value that no GPU reports is unknown, not passed."""
    answers("metric", '"ecc":{', '"ecc":"N/A","was":{')
    answers("firmware", '"CP_MEC1"', '"CP_OTHER"')
    checks = by_id(node)

    assert (checks["ecc"].status, checks["ecc"].found) == ("unknown", "not reported")
    assert (checks["mec_firmware"].status, checks["mec_firmware"].found) == ("unknown", "not reported")


def test_gpu_that_fails_beside_one_that_does_not_tell(amd_smi_on_path, answers, node):
    """A fault of one GPU is not hidden by another's missing value."""
    answers("metric", '"total_uncorrectable_count":0', '"total_uncorrectable_count":"N/A"', 1)
    answers("metric", '"total_uncorrectable_count":0', '"total_uncorrectable_count":3', 1)
    answers("static", '"gfx942"', '"N/A"', 1)
    answers("static", '"gfx942"', '"gfx90a"', 1)
    checks = by_id(node)

    assert (checks["ecc"].status, checks["ecc"].found) == ("fail", "GPU 1: 3; not reported by GPU 0")
    assert (checks["gfx"].status, checks["gfx"].found) == (
        "fail",
        "gfx90a (1), gfx942 (6); not reported by GPU 0",
    )


def test_missing_gpu(amd_smi_on_path, node):
    """Fewer GPUs than the node should have is a failure."""
    assert by_id(node, gpus=16)["gpus"].status == "fail"


def test_old_firmware_with_its_variable(amd_smi_on_path, answers, node):
    """Old compute firmware passes if servers get the variable for it."""
    answers("firmware", '"CP_MEC1","fw_version":"177"', '"CP_MEC1","fw_version":"155"')

    checks = {
        c.id: c
        for c in doctor.examine(node, left_servers=NONE_LEFT, environs=[{"HSA_NO_SCRATCH_RECLAIM": "1"}])
    }
    assert checks["mec_firmware"].status == "pass"
    one_without = doctor.examine(node, left_servers=NONE_LEFT, environs=[{"HSA_NO_SCRATCH_RECLAIM": "1"}, {}])
    assert "mec_firmware" in [check.id for check in doctor.failed_musts(one_without)]


def test_visible_devices_differ(amd_smi_on_path, node):
    """vLLM does not start if the two variables name different devices."""
    checks = {
        c.id: c
        for c in doctor.examine(
            node, left_servers=NONE_LEFT, environs=[{"HIP_VISIBLE_DEVICES": "0", "CUDA_VISIBLE_DEVICES": "1"}]
        )
    }

    assert checks["visible_devices"].status == "fail"


@pytest.mark.parametrize(
    ("file", "text", "check", "status"),
    [
        ("proc/sys/kernel/numa_balancing", "1\n", "numa_balancing", "fail"),
        ("proc/cmdline", "quiet\n", "kernel_cmdline", "fail"),
        ("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "schedutil\n", "cpu_governor", "fail"),
        ("sys/devices/system/cpu/cpu0/cpuidle/state2/disable", "0\n", "idle_c2", "fail"),
    ],
)
def test_ill_kept_host(no_amd_smi, node, file, text, check, status):
    """Each harmful setting of the host fails its check."""
    (node / file).write_text(text)

    assert by_id(node)[check].status == status


@pytest.mark.parametrize(("hard", "status"), [(resource.RLIM_INFINITY, "pass"), (1024, "fail")])
def test_hard_limits(no_amd_smi, node, monkeypatch, hard, status):
    """Stack and open files follow one rule: the hard limit counts, not the current one."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, hard))
    checks = by_id(node)

    assert checks["stack"].status == checks["open_files"].status == status


def test_no_gpu_here(no_amd_smi, tmp_path):
    """Without a GPU one check fails, and the others are unknown and refer to it."""
    checks = by_id(tmp_path / "nothing")

    assert checks["kfd"].status == "fail"
    gpu_ids = (
        "gpus",
        "profile",
        "gfx",
        "vbios",
        "power_cap",
        "partitions",
        "gpu_processes",
        "vram_baseline",
        "ecc",
    )
    assert {checks[id_].status for id_ in gpu_ids} == {"unknown"}
    assert {checks[id_].fix for id_ in gpu_ids} == {"see the check kfd"}
    assert checks["numa_balancing"].status == "unknown"


def test_gpu_without_the_tool(no_amd_smi, node):
    """With a GPU and without amd-smi the finding is the missing tool."""
    check = by_id(node)["ecc"]

    assert (check.status, check.found) == ("unknown", "no amd-smi on PATH")
    assert check.fix.startswith("install amd-smi")


def test_json(no_amd_smi, node):
    """Every check can be written as JSON, with its fix."""
    written = doctor.as_json(doctor.examine(node, left_servers=NONE_LEFT, environs=[{}]))

    assert {"id", "need", "status", "found", "want", "fix", "source"} == set(written[0])


def test_warnings_of_the_tool_stand_below_the_checks(amd_smi_on_path, answers, capsys):
    """`bench doctor` shows amd-smi's warnings."""
    path = answers.folder / "metric.json"
    path.write_text("WARNING: slow link\n" + path.read_text())

    with contextlib.suppress(typer.Exit):
        commands.doctor(as_json=False, gpus=8, reap=False)

    assert "amd-smi says: WARNING: slow link" in capsys.readouterr().out

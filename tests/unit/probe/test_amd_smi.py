"""amd-smi's answers in both shapes, and a tool that fails or hangs."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocbench.probe import amd_smi
from rocbench.records import GpuSample


def test_both_shapes_give_the_same_sample(amd_smi_on_path):
    """All values of an idle MI325X are read, whichever shape the tool prints."""
    rows = amd_smi.ask("metric")

    assert rows is not None
    assert len(rows) == 8
    sample = amd_smi.sample_of(rows[1], 7)
    assert sample == GpuSample(
        at_ns=7,
        gpu=1,
        power_w=142.0,
        energy_j=5_124_456.789,
        temperature_hotspot_c=42.0,
        temperature_memory_c=36.0,
        clock_mhz=133.5,
        vram_used_bytes=297 * 1024**2,
        activity=0.0,
        throttled=sample.throttled,
        ecc_uncorrectable=0,
    )


def test_throttle_is_told_by_the_newer_shape_only(amd_smi_on_path, shape):
    """Without a violation status throttling is absent, not false."""
    rows = amd_smi.ask("metric")

    assert rows is not None
    assert amd_smi.sample_of(rows[0], 0).throttled is (None if shape == "rocm6" else False)
    assert amd_smi.residency(rows[0]) == (None if shape == "rocm6" else 0)


def test_thermal_throttle():
    """An active thermal limit is throttling; the power cap, which is always reached, is not."""
    hot = {
        "gpu": 0,
        "throttle": {"hbm_thermal_violation_status": "ACTIVE", "ppt_violation_status": "NOT ACTIVE"},
    }
    capped = {
        "gpu": 0,
        "throttle": {"hbm_thermal_violation_status": "NOT ACTIVE", "ppt_violation_status": "ACTIVE"},
    }

    assert amd_smi.sample_of(hot, 0).throttled is True
    assert amd_smi.sample_of(capped, 0).throttled is False


def test_not_available_is_absent():
    """N/A, a missing section and an unexpected value become None."""
    row = {
        "gpu": 3,
        "power": {"socket_power": "N/A"},
        "temperature": {"hotspot": {"value": "N/A", "unit": "C"}},
    }

    assert amd_smi.sample_of(row, 1) == GpuSample(at_ns=1, gpu=3)


def test_whole_sections_not_available():
    """ "N/A" in place of a section, or an invalid number, leaves the values absent."""
    sections = ("usage", "power", "clock", "temperature", "ecc", "energy", "mem_usage", "throttle")
    row = {"gpu": 2} | dict.fromkeys(sections, "N/A")

    assert amd_smi.sample_of(row, 1) == GpuSample(at_ns=1, gpu=2)
    assert amd_smi.residency(row) is None
    odd = {"gpu": 2, "clock": {"gfx_0": "N/A"}, "energy": {"total_energy_consumption": "nan"}}
    assert amd_smi.sample_of(odd, 1) == GpuSample(at_ns=1, gpu=2)


def test_row_without_its_gpu_is_no_row():
    """A row without its GPU is dropped; an answer without any GPU is no answer."""
    assert amd_smi.rows('[{"gpu": "N/A"}, {"gpu": "1"}, {}]') == [{"gpu": 1}]
    assert amd_smi.rows('{"gpu_data": [{"gpu": "N/A"}]}') is None


@pytest.mark.parametrize("text", ["", "no json", "3", '"text"', '{"error": 1}', "null"])
def test_other_output_is_no_answer(text):
    """Output without rows is no answer."""
    assert amd_smi.rows(text) is None


def test_single_row():
    """One GPU without a list around it is a list of one."""
    assert amd_smi.rows(json.dumps({"gpu": 0, "power": {}})) == [{"gpu": 0, "power": {}}]


def test_processes(amd_smi_on_path, answers):
    """Processes are listed by GPU; the text for "none" is not a process."""
    answers(
        "process",
        '{"process_info":"No running processes detected"}',
        '{"process_info":{"name":"python3","pid":4711,"mem":{"value":1,"unit":"B"}}}',
        1,
    )

    found = amd_smi.processes_of(amd_smi.ask("process") or [])

    assert found[0] == [(4711, "python3")]
    assert found[7] == []


def test_processes_that_are_not_told():
    """A process without a pid counts; a GPU without a list is omitted, not empty."""
    rows = [
        {"gpu": 0, "process_list": [{"process_info": {"name": "python3", "pid": "N/A"}}]},
        {"gpu": 1, "process_list": [{"process_info": "N/A"}]},
        {"gpu": 2, "process_list": "N/A"},
        {"gpu": 3, "process_list": []},
        {"gpu": 4},
    ]

    assert amd_smi.processes_of(rows) == {0: [(None, "python3")], 3: []}
    assert amd_smi.process_text(None, "python3") == "python3 (pid unknown)"


def test_missing_tool(no_amd_smi):
    """Without the tool there is no answer and no error."""
    assert not amd_smi.available()
    assert amd_smi.ask("metric") is None


def test_hanging_tool(amd_smi_on_path, monkeypatch):
    """A tool that hangs is abandoned after its time limit."""
    monkeypatch.setenv("AMD_SMI_HANG", "1")

    assert amd_smi.ask("metric", timeout_s=0.2) is None
    monkeypatch.delenv("AMD_SMI_HANG")
    assert amd_smi.ask("metric") is None  # left alone for a while
    amd_smi._hung.clear()
    assert amd_smi.ask("metric")


def test_output_beside_a_failing_exit(tmp_path):
    """amd-smi exits non-zero for one unreadable value and prints all others: they are used."""
    tool = tmp_path / "tool"
    tool.write_text("#!/bin/sh\necho '[{\"gpu\": 0}]'\nexit 1\n")
    tool.chmod(0o755)

    assert amd_smi.rows(amd_smi.run([str(tool)]) or "") == [{"gpu": 0}]
    tool.write_text("#!/bin/sh\necho 'usage: ...'\nexit 2\n")
    assert amd_smi.run([str(tool)]) is None
    tool.write_text('#!/bin/sh\nprintf \'[{"gpu": 0, "name": "\\377"}]\'\n')
    assert amd_smi.rows(amd_smi.run([str(tool)]) or "") == [{"gpu": 0, "name": "\ufffd"}]


GROUPS = (
    "WARNING: User is missing the following required groups: render, video. Please add user to these groups."
)
NOISE = (
    "",
    GROUPS,
    "\ufeff",
    "\x1b[33mWARNING\x1b[0m: driver [amdgpu] is older than {the tool}",
    "[1, 2] ] } {not json} [",
    "\r\n'CTRL' + 'C' to stop watching output:\n",
    "AMDSMI Tool: 26.2.0 | ROCm version: 7.1.1 | \u2554\u2550\u2557",
)
DOCUMENTS = (
    '[{"gpu": 0, "x": "[{"}, {"gpu": 1}]',
    '{"gpu_data": [{"gpu": 0, "x": "[{"}, {"gpu": 1}]}',
    '{"gpu": 0, "x": "[{"}\n{"gpu": 1}',
    '[{"gpu": 0, "x": "[{"}]\n[{"gpu": 1}]',
    '{"cpu_data": []}{"gpu_data": [{"gpu": 0, "x": "[{"}, {"gpu": 1}]}',
)


@given(
    st.sampled_from(DOCUMENTS),
    st.lists(st.sampled_from(NOISE)),
    st.lists(st.sampled_from(NOISE)),
    st.booleans(),
)
def test_whatever_stands_around_the_answer(document, before, after, lines):
    """Warnings, banners, colours and byte order marks on standard output do not prevent a reading, and are kept."""
    between = "\n" if lines else " "
    text = between.join([*before, document, *after])

    assert amd_smi.rows(text) == [{"gpu": 0, "x": "[{"}, {"gpu": 1}]
    around = amd_smi.documents(text)[1]
    assert around.count("render, video") == [*before, *after].count(GROUPS)


@given(st.text(max_size=200))
def test_no_answer_is_none(text):
    """Text without a row is no answer."""
    assert amd_smi.rows(text.replace("gpu", "").replace("[]", "")) is None


def test_warning_is_passed_on(tmp_path, monkeypatch):
    """Each line next to the JSON, on either output, is reported once, with the fix if known."""
    tool = tmp_path / "amd-smi"
    tool.write_text(f'#!/bin/sh\necho "{GROUPS}"\necho "slow link" >&2\necho \'[{{"gpu": 0}}]\'\nexit 3\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")

    assert [amd_smi.ask("metric"), amd_smi.ask("list")] == [[{"gpu": 0}]] * 2
    first, second = amd_smi.warnings()
    assert first.startswith(f"amd-smi says: {GROUPS}; fix: sudo usermod -aG render,video $USER")
    assert second == "amd-smi says: slow link"


def test_failure_of_the_tool_keeps_its_words(tmp_path, monkeypatch):
    """A tool that fails gives no rows; the last line of its traceback is kept."""
    tool = tmp_path / "amd-smi"
    frames = 'Traceback (most recent call last):\n  File "x", line 1\nRuntimeError: no driver'
    tool.write_text(f"#!/bin/sh\necho '{frames}' >&2\nexit 1\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")

    assert amd_smi.ask("metric") is None
    assert amd_smi.last_error() == "RuntimeError: no driver"
    assert amd_smi.warnings() == []

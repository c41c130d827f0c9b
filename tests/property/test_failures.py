"""A known failure is told where it happened, and not where a line only talks of it: every signature, every form."""

import json

import pytest

from rocbench.probe.loglines import Severity, entry
from rocbench.probe.logwatch import kind_of
from rocbench.server.failures import exception_line, known, root_cause, signatures

PROCESS = ("", "(EngineCore_DP0 pid=272) ", "(EngineCore_DP0 pid=272) (Worker_TP0 pid=30) ")
STAMP = "2026-01-20 10:00:00,123"


def text_of(signature):
    """A signature's example without the level that stands before it."""
    found = entry(signature.example)
    return found.text.strip()


def logged(level, text):
    """A line of each form in which a server's parts log, at one level."""
    quoted = json.dumps(text)
    number = {"DEBUG": "I", "INFO": "I", "WARNING": "W", "ERROR": "E"}[level]
    yield from (f"{process}{level} 01-20 10:00:00 [x.py:103] {text}" for process in PROCESS)
    yield f"{level}:     {text}"
    yield f"{level}:vllm.engine:{text}"
    yield f"{STAMP} - vllm.engine - {level} - {text}"
    yield f"{STAMP} [{level}] {text}"
    yield f"[{STAMP}] {level} engine.py:12: {text}"
    yield f"{STAMP} | {level} | a.b:12 - {text}"
    yield f"[{level}|engine.py:12] {STAMP} >> {text}"
    yield f"\x1b[33m{level}\x1b[0m 01-20 10:00:00 [x.py:103] {text}"
    yield f"{number}0120 10:00:00.123456 272 x.cc:103] {text}"
    yield f"2026-01-20T10:00:00.123456789Z stderr F {level} 01-20 10:00:00 [x.py:103] {text}"
    yield f"Jan 20 10:00:00 node7 vllm[272]: {level} 01-20 10:00:00 [x.py:103] {text}"
    yield f"2026-01-20T10:00:00.123456Z  {level} vllm_router::health: {text}"
    yield f"{level.capitalize()}: {text}" if level != "ERROR" else f"ERROR {text}"
    yield json.dumps({"level": level, "msg": text})
    yield json.dumps({"timestamp": STAMP, "levelname": level, "message": text})
    yield json.dumps({"severity": level.lower(), "message": text, "logger": "x"})
    yield json.dumps({"record": {"level": {"name": level, "no": 20}, "message": text}})
    yield json.dumps({"log": f"{level} 01-20 10:00:00 [x.py:103] {text}\n", "stream": "stderr"})
    yield f"(EngineCore pid=1) level={level} name=x msg={quoted}"
    yield f'time="{STAMP}" level={level.lower()} msg={quoted}'


def talked_of(text):
    """The text where nobody says that it happened."""
    yield f"hint: {text}"
    yield f"Note: {text}"
    yield f'To avoid "{text}" lower gpu_memory_utilization'
    yield f"This flag helps to prevent {text}"
    yield f"errors like {text} are reported in this way"
    yield f"If you see {text}, read the guide"
    yield f'known messages: "{text}"'
    yield f"known messages: `{text}`"
    yield f"this may end in: {text}"
    yield f"/opt/venv/lib/x.py:12: UserWarning: {text}"
    yield f"ERROR 01-20 10:00:00 [x.py:1] Bad value. To avoid {text} set another one"


@pytest.mark.parametrize("signature", signatures(), ids=lambda signature: signature.id)
def test_talk_is_no_cause(signature):
    """Below ERROR, in advice and in quotation marks, no cause; nor is it the line that tells."""
    text = text_of(signature)
    lines = [line for level in ("DEBUG", "INFO", "WARNING") for line in logged(level, text)]
    if not text.startswith("node7:"):  # NCCL calls its errors WARN
        lines += talked_of(text)

    assert {line: found.signature.id for line in lines if (found := root_cause([line]))} == {}
    assert exception_line(["ValueError: true", *lines]) == "ValueError: true"


@pytest.mark.parametrize("signature", signatures(), ids=lambda signature: signature.id)
def test_report_is_the_cause(signature):
    """As it stands, at ERROR in every form, and at the end of a traceback, it is told as itself."""
    text = text_of(signature)
    frames = ["Traceback (most recent call last):", '  File "x.py", line 1, in f', "    g()"]
    lines = [signature.example, text, *logged("ERROR", text)]
    lines += [json.dumps({"level": "error", "msg": "worker failed", "exc_info": "\n".join([*frames, text])})]

    told = {line: found.signature.id if (found := root_cause([line])) else None for line in lines}
    assert {line: code for line, code in told.items() if code != signature.id} == {}
    traceback = root_cause([*frames, text])
    assert traceback is not None
    assert traceback.signature.id == signature.id


@pytest.mark.parametrize("process", PROCESS)
def test_code_that_a_traceback_shows(process):
    """The lines of code that it quotes name errors which did not happen; another process's lines between are read."""
    head = f"{process}ERROR 01-20 10:00:00 [core.py:1] "
    lines = [
        f"{head}Traceback (most recent call last):",
        f'{head}  File "/x/core.py", line 12, in run',
        "(Other pid=9) Memory access fault by GPU node-4",
        f"{head}    raise_if(torch.OutOfMemoryError, 'No space left on device')",
        f"{head}KeyError: 'x'",
    ]

    found = root_cause(lines)

    assert found is not None
    assert found.signature.id == "gpu_fault"
    assert root_cause(lines[:2] + lines[3:]) is None


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("Unable to open /dev/kfd read-write: Cannot allocate memory", "device_refused"),
        ("Failed to open /dev/dri/renderD128: Device or resource busy", "device_refused"),
        ("Unable to open /dev/kfd read-write: Permission denied", "kfd_permission"),
        ("hipHostMalloc failed: Cannot allocate memory", None),
        ("[drm:amdgpu_cs_ioctl] *ERROR* Cannot allocate memory", None),
        ("NCCL WARN Call to ibv_reg_mr failed with error Cannot allocate memory", "memory_lock"),
        ("bash: fork: Cannot allocate memory", "host_out_of_memory"),
        ("OSError: [Errno 12] Cannot allocate memory", "host_out_of_memory"),
        ("mmap of /dev/shm/x failed: Cannot allocate memory", "host_out_of_memory"),
    ],
)
def test_whose_memory(line, code):
    """A driver that has no memory for its device says nothing of the host's."""
    found = root_cause([line])

    assert (found.signature.id if found else None) == code
    assert code is None or known(code) is not None


@pytest.mark.parametrize(
    ("line", "level", "text"),
    [
        ("(Worker pid=7) ERROR 11-23 01:22:30 [cpu.py:1]     raise x", Severity.ERROR, "    raise x"),
        ('{"level": "INFO", "msg": "cut sho', Severity.INFO, '{"level": "INFO", "msg": "cut sho'),
        ('{"loss": 1}', None, '{"loss": 1}'),
        ("--level=3 is no level", None, "--level=3 is no level"),
        ("Information is no INFO", None, "Information is no INFO"),
        ("node:1:2 [0] NCCL INFO NET/Plugin: none", Severity.INFO, "NET/Plugin: none"),
        ("server-1  | WARNING:  slow", Severity.WARNING, "slow"),
        ("[rank0]: ValueError: x", None, "ValueError: x"),
        ("", None, ""),
    ],
)
def test_level_by_form(line, level, text):
    """The level is what the line's form says, and nothing that its text mentions."""
    found = entry(line)

    assert (found.level, found.text) == (level, text)


def test_errors_that_are_counted():
    """`error_lines` counts what was logged as an error, not what mentions one."""
    assert {kind_of(line) for line in logged("INFO", "an ERROR would stand here, Fatal or CRITICAL")} == {
        None
    }
    assert {kind_of(line) for line in logged("ERROR", "no")} == {"error"}
    assert kind_of("Memory access fault by GPU node-4 (Agent handle: 0x1)") == "error"
    assert kind_of("Traceback (most recent call last):") == "error"

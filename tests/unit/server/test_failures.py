"""The table of known failures, and how the root cause is found in a log."""

import re

import pytest

from rocbench.server import failures
from rocbench.server.failures import exception_line, read_log, root_cause, server_fault, signatures, tidy


def test_table_has_enough():
    """At least twenty signatures, ids unique, each with cause, fix and source."""
    table = signatures()

    assert len(table) >= 20
    assert len({signature.id for signature in table}) == len(table)
    assert all(signature.cause and signature.fix and signature.source for signature in table)


@pytest.mark.parametrize("signature", signatures(), ids=lambda signature: signature.id)
def test_example_is_matched_as_itself(signature):
    """Each signature's example matches that signature and no other."""
    assert re.search(signature.regex, signature.example)

    match = root_cause(["INFO something else", signature.example])

    assert match is not None
    assert match.signature.id == signature.id


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("torch.AcceleratorError: HIP error: an illegal memory access was encountered", "gpu_fault"),
        ("OSError: You are trying to access a gated repo.", "gated_model"),
        ("AttributeError: '_OpNamespace' '_C' object has no attribute 'rms_norm'", "torch_mismatch"),
        ("ImportError: /v/vllm/_C.abi3.so: undefined symbol: hipMemcpy", "rocm_mismatch"),
        ("ninja: build stopped: subcommand failed.", "extension_build"),
    ],
)
def test_other_words_of_a_cause(line, code):
    """Other wordings of the same cause; AITER's line about a failed build decides."""
    match = root_cause([line])
    assert match is not None
    assert match.signature.id == code
    if match.signature.generic:
        below = root_cause([line, "[aiter] failed jit build [module_moe]"])
        assert below is not None
        assert below.signature.id == "aiter_build"


def test_worker_before_engine_core():
    """The worker's line is the cause; those above it that repeat the failure are not."""
    log = [
        "(APIServer pid=1) INFO 01-20 10:00:00 [api_server.py:1] vLLM API server version 0.14.1",
        "(Worker_TP3 pid=9) ERROR 01-20 10:00:09 [m.py:772] AssertionError: Aiter MLA only supports 16 or 128 number of heads.",
        "(EngineCore_DP0 pid=5) Exception: WorkerProc initialization failed due to an exception in a background process.",
        "(APIServer pid=1) RuntimeError: Engine core initialization failed. See root cause above.",
    ]

    match = root_cause(log)

    assert match is not None
    assert match.signature.id == "aiter_mla_heads"
    assert match.line.startswith("AssertionError: Aiter MLA only supports")


def test_generic_when_nothing_else():
    """Without a specific line, the generic failure is named."""
    match = root_cause(["RuntimeError: Engine core initialization failed. See root cause above."])

    assert match is not None
    assert match.signature.id == "engine_core_init"


def test_ordinary_start_has_no_cause():
    """Lines of a successful start match nothing."""
    log = [
        "INFO 01-20 10:00:00 [gpu_model_runner.py:3562] Model loading took 79.0912 GiB memory and 212.3 seconds",
        "INFO 01-20 10:00:00 [kv_cache_utils.py:1305] GPU KV cache size: 1,564,016 tokens",
        (
            "(APIServer pid=9) WARNING 11-23 01:22:07 [system_utils.py:255] Found ulimit of 20000 and failed. This can"
            " cause fd limit errors like `OSError: [Errno 24] Too many open files`."
        ),
        "INFO 01-20 10:00:00 [launcher.py:186] Available routes are:",
        "[aiter] [pid=254 pname=Process-4] finish build [module_moe], cost 57.8s",
    ]

    assert root_cause(log) is None


@pytest.mark.parametrize(
    ("line", "clean"),
    [
        ("(Worker pid=7) ERROR 11-23 01:22:30 [cpu.py:1] ValueError: no", "ValueError: no"),
        ("(VllmWorker-0 pid=15823) INFO 11-23 01:22:30 [a.py:2] text", "text"),
        ("plain line", "plain line"),
        ("(parenthesis) kept", "(parenthesis) kept"),
    ],
)
def test_prefixes_are_cut(line, clean):
    """The prefix of vLLM's log lines is removed."""
    assert tidy(line) == clean


def test_exception_line():
    """Without a known cause the last exception is shown, else the last line, else nothing."""
    assert exception_line(["KeyError: 'x'", "INFO bye"]) == "KeyError: 'x'"
    assert exception_line(["INFO one", "INFO bye"]) == "bye"
    assert exception_line([]) == ""


def test_three_lines(tmp_path):
    """The error has the event and its cause, the remedy, and the log with its line."""
    log = tmp_path / "server.log"
    log.write_text("KeyError: 'model.layers.0.self_attn.indexer.k_cache'\n")

    fault = server_fault("deepseek: the server died after 34 s (exit code 1)", log)

    what, fix, where = fault.text().splitlines()
    assert what.startswith("deepseek: the server died after 34 s (exit code 1): KV offload")
    assert "vLLM 0.18" in fix
    assert where == f"  log: {log}: KeyError: 'model.layers.0.self_attn.indexer.k_cache'"
    assert fault.code == "offload_indexer_key"


def test_both_ends_of_a_huge_log(tmp_path, monkeypatch):
    """Both ends of a huge log are read; the cause and the last line are found in bounded memory."""
    monkeypatch.setattr(failures, "HEAD_BYTES", 1000)
    monkeypatch.setattr(failures, "TAIL_BYTES", 1000)
    log = tmp_path / "server.log"
    with log.open("wb") as file:
        file.write(b"first line\nRuntimeError: No HIP GPUs are available\n")
        file.truncate(10**9)  # sparse: a gigabyte that takes no disk
        file.seek(0, 2)
        file.write(b"\nlast line\n")

    lines = read_log(log)

    assert sum(map(len, lines)) < 2100
    assert lines[-1] == "last line"
    match = root_cause(lines)
    assert match is not None
    assert match.signature.id == "no_gpu"


def test_earlier_start_is_not_read(tmp_path):
    """Lines before this start's offset belong to an earlier server."""
    log = tmp_path / "server.log"
    log.write_text("RuntimeError: No HIP GPUs are available\nnew start\n")

    assert read_log(log, start=40) == ["new start"]

"""Telemetry: its GPUs and readings, and that it never fails a run."""

import json
import sys
import time
import types
from dataclasses import replace
from types import SimpleNamespace

import pytest

from rocbench.probe import amd_library, gpu
from rocbench.processes import identity_of
from rocbench.records import GpuSample
from rocbench.settings.schema import Hardware

S = 1_000_000_000


@pytest.fixture(autouse=True)
def say_again(monkeypatch):
    """Notes are shown once per run, and each test is a run. No amdsmi except the test's own."""
    monkeypatch.setattr(gpu, "_shown", set())
    monkeypatch.setitem(sys.modules, "amdsmi", None)


def nothing(at_ns):
    """A source that never has a reading."""


def running(kind="process", base_url="http://127.0.0.1:1", gpus=(), pids=()):
    """The arguments of `telemetry` for a server without processes but these."""
    return kind, base_url, gpus, lambda: tuple(map(identity_of, pids))


def test_reads_by_command(amd_smi_on_path):
    """Without the library the command is used, on all GPUs of an unbound server, and its cost is stated."""
    with gpu.telemetry(*running(), None) as telemetry:
        telemetry.take()

    assert {sample.gpu for sample in telemetry.samples} == set(range(8))
    assert len(telemetry.notes) == 1
    assert telemetry.notes[0].startswith("GPU telemetry once a second from amd-smi, ")
    assert telemetry.notes[0].endswith("ms of CPU time per reading")


def test_section_that_is_not_told(amd_smi_on_path, answers):
    """N/A in place of a section makes only its value absent."""
    metric = answers.folder / "metric.json"
    metric.write_text(metric.read_text().replace('"clock":{', '"clock":"N/A","was":{'))

    with gpu.telemetry(*running(), None) as telemetry:
        telemetry.take()

    assert {sample.clock_mhz for sample in telemetry.samples} == {None}
    assert telemetry.notes[0].startswith("GPU telemetry once a second from amd-smi, ")


def test_only_the_servers_gpus(amd_smi_on_path):
    """Telemetry is bound to the devices that the server uses: a sum over all would halve TP4's efficiency."""
    with gpu.telemetry(*running(gpus=(4, 5)), None) as telemetry:
        telemetry.take()

    assert {sample.gpu for sample in telemetry.samples} == {4, 5}


def test_gpus_by_process(amd_smi_on_path, answers):
    """An unbound server's GPUs are those on which its processes are listed."""
    listed = '{"gpu":2,"process_list":[{"process_info":'
    answers(
        "process", f'{listed}"No running processes detected"}}]}}', f'{listed}{{"name":"VLLM","pid":1}}}}]}}'
    )

    with gpu.telemetry(*running(pids=(1,)), None) as telemetry:
        assert telemetry.gpus == (2,)


def test_neighbours_are_seen(amd_smi_on_path, answers):
    """Another process on the server's GPUs makes `gpu_shared` true; the server's own do not."""
    answers("process", '"No running processes detected"', '{"name":"train.py","pid":4711}', 1)
    now = time.time_ns()
    telemetry = gpu.Telemetry(read=nothing, gpus=(0,))

    assert telemetry.shared(now, now + S) is None
    telemetry._look_for_others()
    assert telemetry.shared(now, now + S) is True
    own = gpu.Telemetry(read=nothing, gpus=(0,), own_pids=lambda: {4711})
    own._look_for_others()
    assert own.shared(now, now + S) is False


def test_processes_of_an_attached_server(amd_smi_on_path, answers):
    """They are unknown: those found first may be its own and show its GPUs, later ones are not."""
    nobody = '"No running processes detected"'
    listed = '{{"gpu":2,"process_list":[{{"process_info":{}}}'.format
    one = '{"name":"VLLM","pid":4711}'
    answers("process", listed(nobody), listed(one))
    made = gpu.telemetry(*running(kind="attached"), None)
    now = time.time_ns()

    assert made.gpus == (2,)
    made._look_for_others()
    assert made.shared(now, now + S) is None
    made.new_notes()
    answers("process", one, one + '},{"process_info":{"name":"train.py","pid":4712}')
    made._look_for_others()
    made._look_for_others()
    assert made.shared(now, now + S) is True
    assert made.new_notes() == ["another process uses the server's GPUs: train.py (pid 4712) on GPU 2"]
    assert made.new_notes() == []


def test_which_looks_tell_of_a_window():
    """The looks inside the window and the last one before it count; older ones do not, and without any the answer is unknown."""
    telemetry = gpu.Telemetry()
    telemetry.looks = [(0, True), (10 * S, False), (20 * S, False), (30 * S, True)]

    assert telemetry.shared(12 * S, 15 * S) is False
    assert telemetry.shared(5 * S, 8 * S) is True
    assert telemetry.shared(25 * S, 31 * S) is True
    assert telemetry.shared(90 * S, 95 * S) is None


def test_processes_that_are_not_told(amd_smi_on_path, answers):
    """A listing without pids, or without the server's GPU, does not show that no other process was there."""
    answers("process", '"No running processes detected"', '{"name":"python3","pid":"N/A"}', 1)
    now = time.time_ns()

    for gpus in ((0,), (9,)):
        telemetry = gpu.Telemetry(read=nothing, gpus=gpus)
        telemetry._look_for_others()
        assert telemetry.shared(now, now + S) is None


def test_off_without_a_gpu_said_once(no_amd_smi):
    """A machine without an AMD GPU gives one note, not one per server."""
    with gpu.telemetry(*running(), None) as first, gpu.telemetry(*running(), None) as second:
        assert len(first.notes) == 1
        assert "no /dev/kfd, no amd-smi" in first.notes[0]
        assert second.notes == []
        assert first.between(0, S) == []
        assert first.shared(0, S) is None


@pytest.mark.parametrize(
    ("server", "hardware"),
    [
        (running(kind="simulated"), None),
        (running(), Hardware(name="cpu", platform="cpu", gpus=0)),
        (running(kind="attached", base_url="https://node7:8000"), None),
    ],
    ids=["simulated", "cpu", "elsewhere"],
)
def test_off_where_it_means_nothing(amd_smi_on_path, server, hardware):
    """There is no GPU to read for a simulated server, CPU hardware, and a server on another machine."""
    with gpu.telemetry(*server, hardware) as telemetry:
        assert telemetry.read is None


def test_hanging_tool_is_given_up(amd_smi_on_path, monkeypatch):
    """A driver that hangs gives a note and does not stop the run."""
    monkeypatch.setattr(gpu, "FIRST_S", 0.3)
    monkeypatch.setenv("AMD_SMI_HANG", "1")

    with gpu.telemetry(*running(), None) as telemetry:
        assert telemetry.read is None
        assert "no reading within" in telemetry.notes[0]


def test_tool_that_stops_answering(monkeypatch):
    """Consecutive failed readings end the telemetry with a note."""
    monkeypatch.setattr(gpu, "PERIOD_S", 0.0)
    telemetry = gpu.Telemetry(read=nothing)
    with telemetry:
        telemetry._thread.join(10)

    assert telemetry.notes == ["GPU telemetry stopped: 3 consecutive readings failed or took too long"]


def test_one_slow_answer_ends_no_telemetry(monkeypatch):
    """While the command is paused after a time-out, readings are not taken and do not count as failures."""
    monkeypatch.setattr(gpu, "PERIOD_S", 0.0)
    rests = iter([False, *[True] * 9])
    monkeypatch.setattr(gpu.amd_smi, "paused", lambda: next(rests, False))
    answers = iter([None] * 10)
    telemetry = gpu.Telemetry(read=lambda at_ns: next(answers, [(GpuSample(at_ns, 0), None)]))
    with telemetry:
        while telemetry._thread.is_alive() and not telemetry.samples:
            telemetry._thread.join(0.01)

    assert telemetry.samples
    assert telemetry.notes == []


def test_stalled_thread_is_noted():
    """A library call that never returns gives a note at the end of the window."""
    telemetry = gpu.Telemetry(read=nothing)
    telemetry._last_ns = 100 * S

    assert telemetry.between(110 * S, 140 * S) == []
    assert telemetry.notes == ["GPU telemetry stalled: no reading for 40 s"]


def test_throttle_between_two_readings():
    """A limit that was active between two readings shows in the accumulator's difference."""
    readings = iter([(0, None), (0, None), (5, None), (5, True)])

    def read(at_ns):
        residency, status = next(readings)
        return [(GpuSample(at_ns, 0, throttled=status), residency)]

    telemetry = gpu.Telemetry(read=read)
    for _ in range(4):
        telemetry.take()

    assert [sample.throttled for sample in telemetry.samples] == [False, False, True, True]


def test_edges_of_a_window():
    """Readings just outside a window are included, for the energy at its edges."""
    telemetry = gpu.Telemetry()
    telemetry.samples = [GpuSample(at * S, 0) for at in range(20)]

    assert [sample.at_ns // S for sample in telemetry.between(8 * S, 12 * S)] == list(range(5, 15))


def test_the_reading_after_a_window_is_waited_for(monkeypatch):
    """Energy by the accumulator needs a reading after the window's end."""
    monkeypatch.setattr(gpu, "PERIOD_S", 0.01)
    telemetry = gpu.Telemetry(read=lambda at_ns: [(GpuSample(at_ns, 0, energy_j=1.0), None)])
    with telemetry:
        end_ns = time.time_ns() + S // 20
        samples = telemetry.between(end_ns - S, end_ns)

    assert samples[-1].at_ns >= end_ns
    assert telemetry.between(end_ns, time.time_ns() + S)  # nobody reads any more: no wait


def test_gpu_that_a_reading_leaves_out():
    """A missing GPU has a sample without values, so that a sum over the others is not taken for the server's."""
    telemetry = gpu.Telemetry(read=lambda at_ns: [(GpuSample(at_ns, 0, power_w=1.0), None)], gpus=(0, 1))
    telemetry.take()

    assert {sample.gpu: sample.power_w for sample in telemetry.samples} == {0: 1.0, 1: None}


def library(**calls) -> types.ModuleType:
    """An amdsmi whose calls answer as in version 7.0.2 on an MI325X."""
    module = types.ModuleType("amdsmi")
    defaults = {
        "amdsmi_init": lambda: None,
        "amdsmi_shut_down": lambda: None,
        "amdsmi_get_processor_handles": lambda: ["h0", "h1"],
        "amdsmi_get_power_info": lambda _: {
            "socket_power": "N/A",
            "current_socket_power": 655,
            "average_socket_power": "N/A",
        },
        "amdsmi_get_gpu_metrics_info": lambda _: {
            "current_gfxclks": [2100, 2090, 0xFFFF],
            "prochot_residency_acc": 0,
            "socket_thm_residency_acc": 12,
            "vr_thm_residency_acc": 0xFFFFFFFFFFFFFFFF,
            "hbm_thm_residency_acc": 3,
        },
        "amdsmi_get_gpu_vram_usage": lambda _: {"vram_total": 262128, "vram_used": 250000},
        "amdsmi_get_gpu_activity": lambda _: {"gfx_activity": 97, "umc_activity": 60, "mm_activity": "N/A"},
        "amdsmi_get_gpu_total_ecc_count": lambda _: {"correctable_count": 1, "uncorrectable_count": 0},
        "amdsmi_get_energy_count": lambda _: {"energy_accumulator": 2**40, "counter_resolution": 15.259},
        "amdsmi_get_temp_metric": lambda _, kind, __: {"hot": 81, "vram": 74}[kind],
        "AmdSmiTemperatureType": types.SimpleNamespace(HOTSPOT="hot", VRAM="vram"),
        "AmdSmiTemperatureMetric": types.SimpleNamespace(CURRENT="now"),
    }
    for name, value in (defaults | calls).items():
        setattr(module, name, value)
    return module


def test_reads_by_library(monkeypatch):
    """The library's values become the same sample, energy from accumulator and resolution."""
    monkeypatch.setitem(sys.modules, "amdsmi", library())

    (sample, residency), _ = amd_library.Library().read(5)

    assert residency == 15
    assert sample == GpuSample(
        at_ns=5,
        gpu=0,
        power_w=655.0,
        energy_j=pytest.approx(2**40 * 15.259e-6),
        temperature_hotspot_c=81.0,
        temperature_memory_c=74.0,
        clock_mhz=2095.0,
        vram_used_bytes=250_000 * 1024**2,
        activity=0.97,
        ecc_uncorrectable=0,
    )


def test_call_that_fails_leaves_one_value_absent(monkeypatch):
    """A secondary partition has no power: only that value is absent."""

    def refuse(*_):
        raise RuntimeError("AMDSMI_STATUS_NOT_SUPPORTED")

    monkeypatch.setitem(sys.modules, "amdsmi", library())
    whole = amd_library.Library().read(5)[0][0]
    monkeypatch.setitem(
        sys.modules, "amdsmi", library(amdsmi_get_power_info=refuse, amdsmi_get_temp_metric=refuse)
    )

    assert amd_library.Library().read(5)[0][0] == replace(
        whole, power_w=None, temperature_hotspot_c=None, temperature_memory_c=None
    )


def test_library_of_another_version(monkeypatch):
    """A call that a version lacks, and an answer of another type, leave their values absent."""
    module = library(amdsmi_get_gpu_metrics_info=lambda _: "N/A")
    del module.amdsmi_get_gpu_activity
    monkeypatch.setitem(sys.modules, "amdsmi", module)

    sample, residency = amd_library.Library().read(5)[0]

    assert (sample.activity, sample.clock_mhz, residency) == (None, None, None)
    assert sample.power_w == 655.0


def test_millidegrees(monkeypatch):
    """Some versions give temperatures in thousandths."""
    monkeypatch.setitem(sys.modules, "amdsmi", library(amdsmi_get_temp_metric=lambda *_: 81_000))

    assert amd_library.Library().read(5)[0][0].temperature_hotspot_c == 81.0


@pytest.mark.parametrize(
    "error", [KeyError("ROCM_HOME"), OSError("libamd_smi.so"), RuntimeError("no driver")]
)
def test_library_that_cannot_start(monkeypatch, error):
    """If the library raises any error at start, the command is used."""

    def refuse():
        raise error

    monkeypatch.setitem(sys.modules, "amdsmi", library(amdsmi_init=refuse))

    with pytest.raises(OSError, match="amdsmi cannot be used"):
        amd_library.Library()


CPX = '{{"gpu_data":[{}]}}'.format(
    ",".join(
        f'{{"gpu":{n},"power":{{"socket_power":{{"value":700,"unit":"W"}}}},'
        f'"energy":{{"total_energy_consumption":{{"value":1000,"unit":"J"}}}}}}'
        for n in range(8)
    )
)


def cpx_list(*fields):
    """`amd-smi list` of one socket in CPX, with some of its fields."""
    return json.dumps(
        [
            {"gpu": n}
            | {k: v for k, v in {"bdf": f"0000:05:00.{n}", "partition_id": n}.items() if k in fields}
            for n in range(8)
        ]
    )


@pytest.mark.parametrize(
    ("fields", "gpus", "watts", "note"),
    [
        (
            ("bdf", "partition_id"),
            (),
            {0: 700.0},
            "power is counted once per socket: 8 partitions of 1 socket",
        ),
        (("bdf", "partition_id"), (2, 3), {2: 700.0}, "power includes GPUs 0-1, 4-7"),
        ((), (), {}, "power is absent: amd-smi does not report"),
    ],
)
def test_partitions_of_one_socket(amd_smi_on_path, answers, fields, gpus, watts, note):
    """The socket's power is at its lowest used GPU only, and absent if the sockets are unknown."""
    (answers.folder / "metric.json").write_text(CPX)
    (answers.folder / "list.json").write_text(cpx_list(*fields))
    (answers.folder / "static.json").write_text("[]")
    node = Hardware.model_construct(name="n", platform="rocm", gpus=8, gpu=SimpleNamespace(power_w=750.0))
    with gpu.telemetry(*running(gpus=gpus), node) as telemetry:
        telemetry.take()

    known = {sample.gpu: sample.power_w for sample in telemetry.samples if sample.power_w is not None}
    columns = telemetry.power_columns()
    assert known == watts
    assert note in columns["power_note"]
    assert any(note in text for text in telemetry.notes)
    assert columns.get("power_cap_w") == (750.0 if watts else None)


def test_warning_of_the_tool_is_noted_once(amd_smi_on_path, answers):
    """amd-smi's text next to its JSON is noted once per run, and the reading is kept."""
    path = answers.folder / "metric.json"
    path.write_text(
        "WARNING: User is missing the following required groups: render, video.\n" + path.read_text()
    )

    with gpu.telemetry(*running(), None) as telemetry:
        telemetry.take()
        notes = telemetry.new_notes() + telemetry.new_notes()

    assert telemetry.samples
    assert [note for note in notes if "usermod -aG render,video" in note] == [
        note for note in notes if note.startswith("amd-smi says")
    ]
    assert len([note for note in notes if note.startswith("amd-smi says")]) == 1


def test_library_tells_sockets(monkeypatch):
    """Bus address, serial, partition and cap of each handle; a socket is counted once."""
    monkeypatch.setitem(
        sys.modules,
        "amdsmi",
        library(
            amdsmi_get_gpu_device_bdf=lambda handle: f"0000:05:00.{handle[1]}",
            amdsmi_get_gpu_asic_info=lambda _: {"asic_serial": "0xABC"},
            amdsmi_get_gpu_kfd_info=lambda handle: {"current_partition_id": int(handle[1])},
            amdsmi_get_gpu_compute_partition=lambda _: "DPX",
            amdsmi_get_power_cap_info=lambda _: {"max_power_cap": 750_000_000},
        ),
    )
    made = amd_library.Library()
    samples = made.sockets().counted_once([sample for sample, _ in made.read(5)], ())

    assert made.sockets().of == {0: 0, 1: 0}
    assert made.sockets().cap_w([0, 1]) == 750.0
    assert [sample.power_w for sample in samples] == [655.0, None]
    monkeypatch.setitem(sys.modules, "amdsmi", library())
    assert amd_library.Library().sockets().of == {}

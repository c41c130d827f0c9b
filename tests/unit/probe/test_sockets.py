"""GPUs grouped by socket, with power and energy counted once."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocbench.probe.identify import identity_of
from rocbench.probe.sockets import Identity, Sockets, grouped
from rocbench.records import GpuSample
from rocbench.tables import power

S = 1_000_000_000
MODES = {"SPX": 1, "DPX": 2, "QPX": 4, "CPX": 8}


def node(sockets, mode, reported):
    """The identities of such a node, of which the tool reports some fields, and the true sockets."""
    found, truth = {}, {}
    for socket, part in itertools.product(range(sockets), range(MODES[mode])):
        gpu = len(found)
        whole = {
            "bdf": f"0000:{5 + 16 * socket:02x}:00.{part}",
            "serial": f"0x{0xABC0 + socket:X}",
            "partition": part,
            "mode": mode,
            "cap_w": 750.0 if part == 0 else None,
        }
        found[gpu] = Identity(**{name: value for name, value in whole.items() if name in reported})
        truth[gpu] = socket * MODES[mode]
    return found, truth


FIELDS = ("bdf", "serial", "partition", "mode", "cap_w")


@given(
    st.integers(1, 8),
    st.sampled_from(sorted(MODES)),
    st.sets(st.sampled_from(FIELDS)),
    st.integers(0, 2**16),
    st.booleans(),
)
def test_power_is_never_many_fold(sockets, mode, reported, chosen, reports_all):
    """For any reported fields and any used GPUs: the true power of their sockets, or none with the reason."""
    identities, truth = node(sockets, mode, reported)
    used = sorted(gpu for gpu in identities if chosen >> (gpu % 16) & 1) or sorted(identities)
    made = grouped(identities)
    samples = []
    for second in range(12):
        reading = [
            GpuSample(
                second * S,
                gpu,
                power_w=100.0 + truth[gpu] if reports_all or gpu == truth[gpu] else None,
                energy_j=(100.0 + truth[gpu]) * second if reports_all or gpu == truth[gpu] else None,
            )
            for gpu in identities
        ]
        samples += [s for s in made.counted_once(reading, used) if s.gpu in used]
    row = power.window_columns(samples, 2 * S, 8 * S, 100)
    expected = sum({truth[gpu]: 100.0 + truth[gpu] for gpu in used}.values())

    if row["mean_power_w"] is None:
        # The owner of the figure is unknown.
        assert "absent" in made.note(used, identities)
        assert len(identities) > 1
        assert not {"bdf", "serial"} & reported or not {"serial", "partition", "mode"} & reported
    else:
        assert row["mean_power_w"] == pytest.approx(expected)
        assert row["peak_power_w"] == pytest.approx(expected)
        assert row["energy_j"] == pytest.approx(6 * expected)


@pytest.mark.parametrize(
    ("identities", "of"),
    [
        ({0: Identity(bdf="0000:05:00.0"), 1: Identity(bdf="0000:26:00.0")}, {0: 0, 1: 1}),
        ({0: Identity(bdf="05:00.0", serial="A"), 1: Identity(bdf="05:00.1", serial="A")}, {0: 0, 1: 0}),
        ({0: Identity(bdf="05:00.0", serial="A"), 1: Identity(bdf="05:00.1", serial="B")}, {0: 0, 1: 1}),
        ({0: Identity(bdf="05:00.0", serial="0x0"), 1: Identity(bdf="06:00.0", serial="0x0")}, {0: 0, 1: 1}),
        ({0: Identity(bdf="05:00.0"), 1: Identity(bdf="05:00.1")}, {}),
        ({0: Identity(bdf="05:00.0", mode="CPX"), 1: Identity(bdf="05:00.1")}, {0: 0, 1: 0}),
        ({0: Identity(bdf="05:00.0"), 1: Identity(bdf="05:00.0")}, {0: 0, 1: 0}),
        ({0: Identity(serial="0x0"), 1: Identity(serial="N/A")}, {}),
        ({0: Identity(), 1: Identity()}, {}),
        ({0: Identity(mode="SPX"), 1: Identity(mode="SPX")}, {0: 0, 1: 1}),
    ],
    ids=[
        "slots",
        "serial",
        "functions_of_a_guest",
        "no_serial",
        "functions",
        "mode",
        "one_bdf",
        "empty_serials",
        "none",
        "spx",
    ],
)
def test_what_tells_a_socket(identities, of):
    """By slot, then serial, partition number and mode; without any of them a GPU has no known socket."""
    assert grouped(identities).of == of


def test_rows_of_amd_smi():
    """`list` and `static` of both shapes have bus address, serial, partition, mode and cap."""
    listed = {"gpu": 3, "bdf": "0000:05:00.3", "partition_id": 3}
    static = {
        "gpu": 3,
        "asic": {"asic_serial": "0xAB"},
        "partition": {"accelerator_partition": "CPX", "partition_id": "N/A"},
        "limit": {"ppt0": {"max_power_limit": {"value": 1000, "unit": "W"}}},
    }

    assert identity_of(listed, static) == Identity("0000:05:00.3", "0xAB", 3, "CPX", 1000.0)
    assert identity_of({"gpu": 0, "bdf": "N/A"}) == Identity()


def test_what_is_said_of_it():
    """The note names partitions that share a socket: all used, some used, or one listed alone."""
    identities, _ = node(2, "CPX", FIELDS)
    made = grouped(identities)

    assert made.note(range(16), range(16)) == "power is counted once per socket: 16 partitions of 2 sockets"
    assert made.note([3], range(16)) == (
        "power includes GPUs 0-2, 4-7: power is measured for whole sockets, and the server uses 1 partition of 1 socket"
    )
    assert grouped({3: identities[3]}).note([3], [3]) == (
        "power is measured for whole sockets; GPUs 3 are partitions of a socket"
    )
    assert grouped(node(8, "SPX", FIELDS)[0]).note(range(8), range(8)) == ""
    assert Sockets().note([0], [0]) == ""
    assert made.cap_w(range(16)) == 1500.0
    assert Sockets().cap_w([0]) is None

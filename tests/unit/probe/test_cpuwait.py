"""The server's wait for CPUs and its causes: from a /proc made for the test, and as an account of readings."""

import os
import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocbench.probe import cpuwait
from rocbench.probe.cpuwait import Account, CpuWait, Reading, ThreadTime
from rocbench.processes import ProcessIdentity, identity_of

ONE, ANY = frozenset({0}), frozenset({0, 1, 2, 3})
FOUR, EIGHT = dict.fromkeys(range(4), 0.0), dict.fromkeys(range(8), 0.0)


def reading(at_s, threads, idle=None, held=None):
    """A reading: thread number to (run, wait) or (run, wait, CPUs); CPU to idle seconds, of a machine with one."""
    made = {
        (1, tid): ThreadTime(*spent) if len(spent) == 3 else ThreadTime(*spent, ONE)
        for tid, spent in threads.items()
    }
    return Reading(float(at_s), made, {0: 0.0} if idle is None else idle, held or {})


def share(*readings):
    """The wait share of these readings."""
    account = Account(readings[0])
    for each in readings[1:]:
        account.add(each)
    return account.wait_share()


@pytest.mark.parametrize("idle", [0, 60])
def test_a_busy_loop_on_the_same_cpu(idle):
    """Another process takes half of the CPU: the share is a half, whatever the number of idle threads."""
    idle_threads = {100 + n: (0.0, 0.0) for n in range(idle)}
    before = reading(0, {1: (100.0, 7.0)} | idle_threads)
    after = reading(10, {1: (105.0, 12.0)} | idle_threads)

    assert share(before, after) == pytest.approx(0.5)


def test_a_server_that_competes_with_itself():
    """64 threads on 4 CPUs wait most of the time for each other: no other process took time."""
    before = reading(0, dict.fromkeys(range(64), (0.0, 0.0, ANY)), FOUR)
    after = reading(10, dict.fromkeys(range(64), (40 / 64, 10 - 40 / 64, ANY)), FOUR)

    assert share(before, after) == pytest.approx(0.0, abs=1e-9)


def test_work_on_other_cpus_takes_nothing():
    """A busy loop on a CPU that the waiting thread may not use does not count."""
    before = reading(0, {1: (0.0, 0.0), 2: (0.0, 0.0)}, dict.fromkeys(range(2), 0.0))
    after = reading(10, {1: (6.0, 4.0), 2: (4.0, 6.0)}, dict.fromkeys(range(2), 0.0))

    assert share(before, after) == pytest.approx(0.0)


def test_work_while_the_server_idles():
    """Others ran half of their time while the server was idle: only the other half is a loss."""
    before = reading(0, {1: (0.0, 0.0), 2: (0.0, 0.0)})
    after = reading(10, {1: (2.0, 3.0), 2: (2.0, 2.0)}, {0: 4.0})

    assert share(before, after) == pytest.approx(0.3 * 1 / (1 + 2))


def test_one_starved_rank_among_busy_ones():
    """One of eight ranks, each on its own CPU, shares its CPU: the column is its share, not an eighth of it."""
    ranks = {n: frozenset({n}) for n in range(8)}
    before = reading(0, {n: (0.0, 0.0, cpus) for n, cpus in ranks.items()}, EIGHT)
    spent = {n: (3.0, 7.0, cpus) if n == 5 else (10.0, 0.0, cpus) for n, cpus in ranks.items()}
    after = reading(10, spent, EIGHT)

    assert share(before, after) == pytest.approx(0.7)


def test_threads_that_begin_and_end():
    """A thread that starts in the window counts from its start, an ended one until its last reading."""
    readings = (
        reading(0, {1: (5.0, 50.0)}),
        reading(5, {1: (6.0, 54.0), 2: (0.5, 1.0)}),
        reading(10, {2: (0.5, 6.0)}),
    )

    account = Account(readings[0])
    for each in readings[1:]:
        account.add(each)
    assert account.spent[1, 1] == ThreadTime(1.0, 4.0, ONE)
    assert account.spent[1, 2] == ThreadTime(0.5, 6.0, ONE)
    assert account.wait_share() == pytest.approx(0.6 * 8.5 / 9.5)


def test_a_thread_number_that_is_used_again():
    """A smaller sum under the same thread number is a new thread: it adds, and nothing becomes negative."""
    before, between = reading(0, {1: (9.0, 9.0)}), reading(5, {1: (0.1, 2.0)})

    assert Account(before).spent == {}
    assert share(before, between, reading(10, {1: (0.2, 4.0)})) == pytest.approx(0.4)


def test_a_quota_counts_whole():
    """Time throttled by a CPU quota is a loss, even if nothing else ran."""
    before = reading(0, {1: (0.0, 0.0)}, {0: 0.0}, {"/sys/fs/cgroup/pod": 3.0})
    after = reading(10, {1: (3.0, 7.0)}, {0: 7.0}, {"/sys/fs/cgroup/pod": 10.0})

    assert share(before, after) == pytest.approx(0.7)


def test_nothing_seen_is_not_zero():
    """Without threads, and without time, there is no share."""
    assert share(reading(0, {}), reading(10, {})) is None
    assert share(reading(0, {1: (0.0, 0.0)})) is None


@given(
    spent=st.lists(st.tuples(st.floats(0, 10), st.floats(0, 10)), min_size=1, max_size=20),
    others=st.floats(0, 1),
    held=st.floats(0, 20),
    idle=st.integers(0, 30),
)
def test_properties(spent, others, held, idle):
    """A share is between 0 and the longest wait; idle threads do not change it; alone and without a quota it is 0."""

    def of(others, held, idle):
        threads = dict(enumerate([*spent, *[(0.0, 0.0)] * idle]))
        left = max(0.0, 10 - sum(run for run, _ in spent))
        return share(
            reading(0, dict.fromkeys(threads, (0.0, 0.0)), {0: 0.0}, {"g": 0.0}),
            reading(10, threads, {0: left * (1 - others)}, {"g": held}),
        )

    found = of(others, held, idle)
    assert 0 <= found <= max(wait for _, wait in spent) / 10 + 1e-9
    assert found == pytest.approx(of(others, held, 0))
    assert of(0.0, 0.0, idle) == pytest.approx(0.0, abs=1e-6)


@pytest.fixture
def machine(tmp_path):
    """A /proc with a server of two processes, and control groups with a quota above the server's own."""
    proc, groups = tmp_path / "proc", tmp_path / "cgroup"
    for pid, threads in {
        10: {10: "7000000000 1000000000 5", 11: "0 0 0"},
        20: {20: "2000000000 500000000 9"},
    }.items():
        for tid, text in threads.items():
            folder = proc / str(pid) / "task" / str(tid)
            folder.mkdir(parents=True)
            (folder / "schedstat").write_text(f"{text}\n")
        (proc / str(pid) / "cgroup").write_text("0::/pod/server\n")
    (proc / "stat").write_text("cpu  9 9 9 9 9 9 9 9 0 0\ncpu0 100 20 30 999 5 7 7 50 0 0\nintr 5\n")
    (groups / "pod" / "server").mkdir(parents=True)
    (groups / "cpu.stat").write_text("usage_usec 1\n")
    (groups / "pod" / "cpu.stat").write_text("usage_usec 1\nnr_throttled 3\nthrottled_usec 2500000\n")
    (groups / "pod" / "server" / "cpu.stat").write_text("usage_usec 1\nthrottled_usec 0\n")
    return proc, groups


def test_read(machine):
    """Threads of every process with their CPUs, the time in which no thread ran, quotas of all groups above."""
    proc, groups = machine
    members = [ProcessIdentity(10, 1), ProcessIdentity(20, 1), ProcessIdentity(30, 1)]

    found = cpuwait.read_cpu_wait(members, proc, groups, affinity=lambda tid: {tid % 2})

    assert found.threads == {
        (10, 10): ThreadTime(7.0, 1.0, frozenset({0})),
        (10, 11): ThreadTime(0.0, 0.0, frozenset({1})),
        (20, 20): ThreadTime(2.0, 0.5, frozenset({0})),
    }
    assert found.idle_s == {0: pytest.approx(1018 / os.sysconf("SC_CLK_TCK"))}
    assert found.throttled_s == {str(groups / "pod"): 2.5, str(groups / "pod" / "server"): 0.0}


def test_read_of_version_1(machine):
    """cgroup version 1 reports nanoseconds, in the tree of the `cpu` controller."""
    proc, groups = machine
    for pid in (10, 20):
        (proc / str(pid) / "cgroup").write_text("4:memory:/pod\n1:cpu,cpuacct:/pod\n0::/\n")
    (groups / "cpu,cpuacct" / "pod").mkdir(parents=True)
    (groups / "cpu,cpuacct" / "pod" / "cpu.stat").write_text("nr_periods 9\nthrottled_time 1500000000\n")

    found = cpuwait.read_cpu_wait([ProcessIdentity(10, 1)], proc, groups, affinity=lambda _: {0})

    assert found.throttled_s == {str(groups / "cpu,cpuacct" / "pod"): 1.5}


def test_a_kernel_that_does_not_tell(tmp_path):
    """Without schedstat, or without /proc, there are no readings and no share."""
    (tmp_path / "10" / "task" / "10").mkdir(parents=True)

    assert cpuwait.read_cpu_wait([ProcessIdentity(10, 1)], tmp_path, tmp_path).threads == {}
    waits = CpuWait(lambda: ())
    waits.enter("measure")
    waits.enter("tail")
    assert set(waits.view().values()) == {None}


def test_of_real_processes():
    """A process that competes with a loop for one CPU has a share; readings continue between the edges."""
    cpu = max(os.sched_getaffinity(0))
    code = f"import os\nos.sched_setaffinity(0, [{cpu}])\nprint(flush=True)\nwhile os.getppid() == {os.getpid()}: sum(range(9999))"
    both = [
        subprocess.Popen([sys.executable, "-S", "-c", code], start_new_session=True, stdout=subprocess.PIPE)
        for _ in range(2)
    ]
    try:
        for one in both:
            one.stdout.readline()
        members = (identity_of(both[0].pid),)
        with CpuWait(lambda: members, period_s=0.05) as waits:
            waits.enter("measure")
            time.sleep(1.0)
            waits.enter("tail")
    finally:
        for one in both:
            one.kill()
            one.wait()
            one.stdout.close()

    found = waits.view()["server_cpu_wait_share"]
    assert 0.2 < found <= 1.0

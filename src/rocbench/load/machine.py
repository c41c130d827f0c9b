"""The load's machine: transport, open-file limit, worker count, CPUs."""

from __future__ import annotations

import resource
import sys
from typing import Literal

from rocbench import baseurl
from rocbench.address import proxy_of
from rocbench.errors import InputError
from rocbench.load import calibrate
from rocbench.load.cpus import usable
from rocbench.load.spec import Closed, LoadSpec

USERS_PER_WORKER = 1000
"""Users of one worker with true stamps, without a calibration: 40,000 tokens/s on one core of 2023."""

_MANY_FILES = 1 << 20
"""Files to request if there is no hard limit: the kernel's default of `fs.nr_open`."""


def raise_file_limit() -> int:
    """Raise the soft limit of open files to the hard one and return it. A soft 1,024 breaks 1,000 users."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = _MANY_FILES if hard == resource.RLIM_INFINITY else hard
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    except (OSError, ValueError):
        return soft
    return limit


def choose_transport(spec: LoadSpec) -> Literal["wire", "aiohttp"]:
    """The transport of a load. Raises InputError if the wire is requested but not possible."""
    where = baseurl.parse(spec.target.base_url)
    proxied = proxy_of(where) is not None
    possible = sys.platform == "linux" and where.scheme == "http" and not proxied
    if spec.transport == "wire" and not possible:
        why = "a proxy is in front of the server" if proxied else "this transport needs plain HTTP and Linux"
        raise InputError(
            f"the wire transport cannot reach {spec.target.base_url}: {why}", fix="set transport: aiohttp"
        )
    if spec.transport == "aiohttp":
        return "aiohttp"
    return "wire" if possible else "aiohttp"


def choose_workers(spec: LoadSpec) -> int:
    """Worker processes of a load: as asked, else by the users per worker, at most one per CPU.

    Users per worker come from `bench calibrate` on this machine; without a calibration, 1,000.
    """
    if spec.workers is not None:
        return spec.workers
    cpus = len(spec.cpus) if spec.cpus else len(usable())
    return max(1, min(cpus, needed_workers(spec)))


def needed_workers(spec: LoadSpec) -> int:
    """Worker processes that the users of a load need, independent of the number of CPUs."""
    calibration = calibrate.load()
    each = calibration.worker_users if calibration and calibration.worker_users else USERS_PER_WORKER
    users = spec.shape.users if isinstance(spec.shape, Closed) else each
    return -(-users // each)

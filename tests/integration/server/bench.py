# ruff: noqa: T201
"""Stands in for `bench`: starts one server, says so, waits; interrupts end it as they end bench.

python bench.py FOLDER GRACE_S FLAGS... -- COMMAND...
"""

import sys
import time
from pathlib import Path

from rocbench import server
from rocbench.server.spec import ServerSpec

folder, grace_s, *command = sys.argv[1:]
spec = ServerSpec(
    kind="process",
    model="toy",
    folder=Path(folder),
    command=tuple(command),
    grace_s=float(grace_s),
    ready_timeout_s=60.0,
)
try:
    with server.start(spec, lambda text, _: print(f"progress {text}", flush=True)) as running:
        print(f"ready {running.pid}", flush=True)
        time.sleep(600)
except KeyboardInterrupt:
    sys.exit(130)

"""`bench doctor` and `bench calibrate`: this machine."""

from __future__ import annotations

from typing import Annotated

import typer

from rocbench import harmless
from rocbench.commands import options
from rocbench.errors import Exit, NodeFault


def doctor(
    as_json: options.AsJson = False,
    gpus: Annotated[int, options.option("N", "Expect this number of GPUs.", min=0)] = 8,
    reap: options.Reap = False,
) -> None:
    """Check this node before a run: each check passes, fails or stays unknown. Changes nothing without --reap."""
    from rocbench import console
    from rocbench.probe import amd_smi
    from rocbench.probe import doctor as examined
    from rocbench.server import orphans
    from rocbench.server.spec import GRACE_S

    try:
        leftovers = orphans.find()
    except NodeFault:  # a check reports it
        leftovers = ()
        if reap:
            raise
    for orphan in leftovers if reap else ():
        if not orphan.doubt:
            orphans.reap(orphan, grace_s=GRACE_S)
    checks = examined.examine(left_servers=orphans.check(), gpus=gpus)
    if as_json:
        typer.echo(harmless.json_text(examined.as_json(checks)))
    else:
        console.show_rows(
            ["", "need", "check", "found", "expected", "fix"],
            [[c.status, c.need, c.id, c.found, c.want, c.fix] for c in checks],
        )
        for warning in amd_smi.warnings():
            console.say(warning)
        for orphan in leftovers:
            state = "stopped" if reap else "left behind by an earlier bench; stop it with --reap"
            console.say(f"left alone: {orphan.doubt}" if orphan.doubt else f"{state}: {orphan.text()}")
    failed = examined.failed_musts(checks)
    if not as_json:
        unknown = sum(check.status == "unknown" for check in checks)
        console.say(f"{len(checks)} checks: {len(failed)} must-checks failed, {unknown} unknown")
    if failed or (not reap and any(not orphan.doubt for orphan in leftovers)):
        raise typer.Exit(int(Exit.ENVIRONMENT))


def calibrate(as_json: options.AsJson = False) -> None:
    """Measure the highest load at which one load worker of this machine still has accurate timestamps, and store the result. Takes 3 minutes."""
    from dataclasses import asdict

    from rocbench import console
    from rocbench.load import calibrate as ceiling
    from rocbench.load import drive
    from rocbench.units import number

    def show(level: ceiling.LoadLevel) -> None:
        if not as_json:
            console.say(
                f"{level.users:,} users, {level.step_ms:g} ms steps: {number(level.tokens_per_s, 0)} tokens/s, "
                f"{level.cpu_us_per_token:.1f} us CPU per token, ITL p99 off by {level.itl_p99_off_ms:.2f} ms"
            )

    ceilings = ceiling.calibrate(drive, show)
    path = ceiling.save(ceilings)
    if as_json:
        typer.echo(harmless.json_text(asdict(ceilings)))
        return
    console.say(
        f"one worker: timestamps are accurate up to {number(ceilings.worker_tokens_per_s, 0)} tokens/s and "
        f"{ceilings.worker_users:,} users (limited by: {ceilings.limited_by})"
    )
    console.say(f"written: {path}")

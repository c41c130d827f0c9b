"""`bench doctor` and `bench calibrate`: this machine."""

from __future__ import annotations

from typing import Annotated

import typer

from rocbench import harmless
from rocbench.errors import Exit, NodeFault


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    gpus: Annotated[int, typer.Option(min=0, help="GPUs that the node should have.")] = 8,
    reap: Annotated[
        bool, typer.Option("--reap", help="End servers that an earlier bench left behind.")
    ] = False,
) -> None:
    """Check this node before a run: each check passes, fails or cannot be told. Changes nothing."""
    from rocbench import console
    from rocbench.probe import amd_smi
    from rocbench.probe import doctor as examined
    from rocbench.server import orphans
    from rocbench.server.spec import GRACE_S

    try:
        left = orphans.find()
    except NodeFault:  # told by a check of its own
        left = ()
        if reap:
            raise
    for orphan in left if reap else ():
        if not orphan.doubt:
            orphans.reap(orphan, grace_s=GRACE_S)
    checks = examined.examine(left_servers=orphans.check(), gpus=gpus)
    if as_json:
        typer.echo(harmless.json_text(examined.as_json(checks)))
    else:
        console.show_rows(
            ["", "need", "check", "found", "wanted", "what to do"],
            [[c.status, c.need, c.id, c.found, c.want, c.fix] for c in checks],
        )
        for warning in amd_smi.warnings():
            console.say(warning)
        for orphan in left:
            done = "ended" if reap else "left behind by an earlier bench, end it with --reap"
            console.say(f"left alone: {orphan.doubt}" if orphan.doubt else f"{done}: {orphan.text()}")
    failed = examined.failed_musts(checks)
    if not as_json:
        unknown = sum(check.status == "unknown" for check in checks)
        console.say(f"{len(checks)} checks: {len(failed)} must-checks failed, {unknown} cannot be told")
    if failed or (not reap and any(not orphan.doubt for orphan in left)):
        raise typer.Exit(int(Exit.ENVIRONMENT))


def calibrate(
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Find what one load worker of this machine can deliver with true stamps, and keep it. About three minutes."""
    from dataclasses import asdict

    from rocbench import console
    from rocbench.load import calibrate as ceiling
    from rocbench.load import drive
    from rocbench.units import number

    def tell(level: ceiling.LoadLevel) -> None:
        if not as_json:
            console.say(
                f"{level.users:,} users, {level.step_ms:g} ms steps: {number(level.tokens_per_s, 0)} tokens/s, "
                f"{level.cpu_us_per_token:.1f} us CPU a token, ITL p99 off by {level.itl_p99_off_ms:.2f} ms"
            )

    found = ceiling.calibrate(drive, tell)
    where = ceiling.save(found)
    if as_json:
        typer.echo(harmless.json_text(asdict(found)))
        return
    console.say(
        f"one worker: stamps stay true up to {number(found.worker_tokens_per_s, 0)} tokens/s and "
        f"{found.worker_users:,} users (limited by: {found.limited_by})"
    )
    console.say(f"kept in {where}")

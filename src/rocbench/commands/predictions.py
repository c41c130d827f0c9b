"""`bench predict` and `bench calibrate-model`: sweeps in virtual time, and what their step times hang on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rocbench.commands import options
from rocbench.errors import InputError

if TYPE_CHECKING:
    from rocbench.predict.calibrating import Fit
    from rocbench.sim.calibration import Calibration

Allow = Annotated[
    bool,
    typer.Option("--allow-simulated", help="Fit to simulated rows too: a test of the fit, of no hardware."),
]

Fitted = Callable[[str, "Calibration", str | None], "Calibration | None"]
fitted_elsewhere: list[Fitted] = []
"""Fits to something other than a run folder, given RUN, --from and --name; None where RUN is not theirs. A part that
the core does not know (study/) adds its own."""


def predict(
    sweep: Annotated[
        str | None, typer.Argument(metavar="[SWEEP]", help="A sweep's name or YAML file.")
    ] = None,
    calibration: Annotated[
        str | None, typer.Option(help="Name or file of a calibration; default the sweep's own.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write a run folder; without, only the table.")] = None,
    only: Annotated[
        str | None, typer.Option(help="Only cells that match MODEL or MODEL/WORKLOAD/LEVEL.")
    ] = None,
    vllm: options.Vllm = None,
    hardware: options.HardwareName = None,
    tp: options.Tp = None,
    aiter: options.AiterText = None,
    set_: options.SetText = None,
) -> None:
    """Predict a sweep's tables in virtual time, from the simulated server's scheduler and physics. Runs nothing."""
    from rocbench import console
    from rocbench.commands import planning
    from rocbench.plan.faults import raise_faults
    from rocbench.plan.planned import Overrides
    from rocbench.predict import predicting
    from rocbench.report import endtable
    from rocbench.settings import catalog
    from rocbench.sim import calibration as calibrations

    args, env = options.settings(set_)
    chosen = Overrides(
        vllm=vllm, hardware=hardware, tp=tp, aiter=options.aiter(aiter), args=args, env=env, only=only
    )
    named, _ = catalog.sweep(sweep)
    made = predicting.plan(named, planning.sources(named, chosen), chosen, calibration)
    raise_faults(made)
    cal = calibrations.read_calibration(made.sweep.simulation.calibration)
    if out is not None:
        folder = predicting.write(made, out, chosen)
        console.show_cells(folder.cells(), folder.path)
    else:
        rows = [found.row for found in predicting.predictions(made)]
        endtable.show(rows, console.out())
    console.say(f"PREDICTED with calibration {cal.name}: {told(cal)}")


def told(cal: Calibration) -> str:
    """What a calibration is, in a line."""
    if not cal.errors:
        return f"{cal.what}, not fitted to any row"
    errors = ", ".join(f"{model} {error:.1%}" for model, error in cal.errors.items())
    return f"{cal.what}; median error on what it was fitted to: {errors}"


def calibrate_model(
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="A run folder with measured rows, or a study's name.")
    ],
    name: Annotated[str | None, typer.Option(help="Name of the calibration; default from RUN.")] = None,
    out: Annotated[Path | None, typer.Option(help="File to write; default NAME.yaml here.")] = None,
    assumed: Annotated[
        str, typer.Option("--from", help="Calibration to begin at, and to hold to.")
    ] = "default",
    allow_simulated: Allow = False,
) -> None:
    """Fit efficiencies (bandwidth, compute, links, overheads) to measured rows, and say how far they are off."""
    from rocbench import console
    from rocbench.predict import calibrating
    from rocbench.sim import calibration as calibrations

    if out is not None and not out.parent.is_dir():
        raise InputError("its folder does not exist", where=str(out), fix=f"mkdir -p {out.parent}")
    base = calibrations.read_calibration(assumed)
    others = (fitted(run, base, name) for fitted in fitted_elsewhere)
    made = next(filter(None, others), None) or _of_run(Path(run), base, name, allow=allow_simulated)
    target = out or Path(f"{made.name}.yaml")
    target.write_text(calibrating.document(made), encoding="utf-8")
    console.say(f"written: {target}; use it with --calibration {target}")


def _of_run(run: Path, base: Calibration, name: str | None, *, allow: bool) -> Calibration:
    from rocbench.conduct import rows as tables
    from rocbench.predict import calibrating, observed
    from rocbench.store.folder import RunFolder
    from rocbench.tables.row import judged

    folder = RunFolder.open(run)
    rows = judged(row for row in folder.rows if not row.discarded)
    if not rows:
        raise InputError("no row that could be fitted to", where=str(run))
    if any(row.get("simulated") for row in rows) and not allow:
        raise InputError(
            "these rows are simulated: a calibration fitted to them says nothing of hardware",
            where=str(run),
            fix="give a measured run, or --allow-simulated to test the fit",
        )
    plan = tables.stored(folder.plan, folder.manifest)
    found = list(observed.servers(plan, rows, base))
    alike = [group.server_id for group, when, _ in found if [w for _, w, _ in found].count(when) > 1]
    if alike:
        raise InputError(
            f"servers {', '.join(alike)} differ in nothing that a calibration tells apart (model, AITER,"
            " back end, GPU): one fit would hide the other",
            where=str(run),
            fix="give a run that has one of them",
        )
    fits = []
    for group, when, levels in found:
        fit = calibrating.fit(levels, levels[0].node.efficiency)
        show_fit(group.server_id, fit)
        fits.append((when, fit, f"fitted to {len(levels)} levels of {run.name}"))
    note = f"Fitted to rows of {run.name}. For other servers it is as `{base.name}` assumes."
    return observed.calibration(name or run.name, note, base, fits)


def show_fit(model: str, fit: Fit) -> None:
    """Fitted values with their intervals, then each level's error."""
    from rocbench import console

    console.show_rows(
        [model, "fitted", "95 % interval", ""],
        [
            [
                p.name,
                f"{p.value:.4g}",
                f"{p.low:.3g} to {p.high:.3g}",
                "" if p.decided else "not decided by these levels",
            ]
            for p in fit.parameters
        ],
    )
    rows: dict[str, dict[str, Any]] = {}
    for miss in fit.misses:
        rows.setdefault(miss.level, {})[miss.figure] = miss
    names = list(dict.fromkeys(miss.figure for miss in fit.misses))
    console.show_rows(
        ["level", *(f"{name}: measured, predicted, error" for name in names)],
        [[level, *(_miss(found.get(name)) for name in names)] for level, found in rows.items()],
    )
    console.say(f"{model}: median error {fit.median_error():.1%}")


def _miss(miss: Any) -> str:
    return "-" if miss is None else f"{miss.measured:,.1f}  {miss.predicted:,.1f}  {miss.error:+.1%}"

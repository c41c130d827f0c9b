"""`bench predict` and `bench calibrate-model`: sweeps in virtual time, and the calibration of their step times."""

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
    typer.Option("--allow-simulated", help="Accept simulated rows: this tests the fit, not the hardware."),
]

Fitted = Callable[[str, "Calibration", str | None], "Calibration | None"]
fitted_elsewhere: list[Fitted] = []
"""Fits to sources other than run folders: called with RUN, --from and --name, they return None for a RUN of another
kind. Packages that the core does not import (study/) add theirs."""


def predict(
    sweep: options.SweepFile = None,
    calibration: Annotated[
        str | None, options.option("NAME", "Use this calibration: a name or a file. Default: the sweep's.")
    ] = None,
    out: Annotated[
        Path | None, options.option("DIR", "Write this run folder. Default: print the table only.")
    ] = None,
    only: options.Only = None,
    vllm: options.Vllm = None,
    hardware: options.HardwareName = None,
    tp: options.Tp = None,
    aiter: options.AiterText = None,
    set_: options.SetText = None,
) -> None:
    """Predict a sweep's results without running a server, from the simulator's scheduler and hardware model. Starts nothing."""
    from rocbench import console
    from rocbench.commands import planning
    from rocbench.plan.faults import raise_faults
    from rocbench.predict import predicting
    from rocbench.report import endtable
    from rocbench.settings import catalog
    from rocbench.sim import calibration as calibrations

    overrides = options.overrides(vllm, hardware, tp, aiter, set_, only=only)
    settings, _ = catalog.sweep(sweep)
    plan = predicting.plan(settings, planning.sources(settings, overrides), overrides, calibration)
    raise_faults(plan)
    cal = calibrations.read_calibration(plan.sweep.simulation.calibration)
    if out is not None:
        folder = predicting.write(plan, out, overrides)
        console.show_cells(folder.cells(), folder.path)
    else:
        rows = [prediction.row for prediction in predicting.predictions(plan)]
        endtable.show(rows, console.out())
    console.say(f"PREDICTED with calibration {cal.name}: {summary(cal)}")


def summary(cal: Calibration) -> str:
    """Describe a calibration in one line."""
    if not cal.errors:
        return f"{cal.what}, not fitted to any row"
    errors = ", ".join(f"{model} {error:.1%}" for model, error in cal.errors.items())
    return f"{cal.what}; median error on the rows it was fitted to: {errors}"


def calibrate_model(
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="Run folder with measured rows, or a study's name.")
    ],
    name: Annotated[str | None, options.option("NAME", "Name the calibration. Default: from RUN.")] = None,
    out: Annotated[
        Path | None, options.option("FILE", "Write to this file. Default: NAME.yaml in the current folder.")
    ] = None,
    assumed: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="NAME",
            help="Start from this calibration. Values that the rows cannot determine stay unchanged.",
        ),
    ] = "default",
    allow_simulated: Allow = False,
) -> None:
    """Fit the hardware model's efficiencies (bandwidth, compute, links, overheads) to measured rows, and print the error that remains for each row."""
    from rocbench import console
    from rocbench.predict import calibrating
    from rocbench.sim import calibration as calibrations

    if out is not None and not out.parent.is_dir():
        raise InputError("the folder of --out does not exist", where=str(out), fix=f"mkdir -p {out.parent}")
    base = calibrations.read_calibration(assumed)
    others = (fit(run, base, name) for fit in fitted_elsewhere)
    calibration = next(filter(None, others), None) or _of_run(Path(run), base, name, allow=allow_simulated)
    target = out or Path(f"{calibration.name}.yaml")
    target.write_text(calibrating.document(calibration), encoding="utf-8")
    console.say(f"written: {target}; use it with --calibration {target}")


def _of_run(run: Path, base: Calibration, name: str | None, *, allow: bool) -> Calibration:
    from rocbench.conduct import rows as tables
    from rocbench.predict import calibrating, observed
    from rocbench.store.folder import RunFolder
    from rocbench.tables.row import judged

    folder = RunFolder.open(run)
    rows = judged(row for row in folder.rows if not row.discarded)
    if not rows:
        raise InputError("no row can be fitted", where=str(run))
    if any(row.get("simulated") for row in rows) and not allow:
        raise InputError(
            "these rows are simulated: a calibration fitted to them says nothing about hardware",
            where=str(run),
            fix="give a measured run, or --allow-simulated to test the fit",
        )
    plan = tables.stored(folder.plan, folder.manifest)
    servers = list(observed.servers(plan, rows, base))
    alike = [group.server_id for group, when, _ in servers if [w for _, w, _ in servers].count(when) > 1]
    if alike:
        raise InputError(
            f"servers {', '.join(alike)} have the same model, AITER, backend and GPU: a calibration cannot"
            " distinguish them",
            where=str(run),
            fix="give a run with only one of these servers",
        )
    fits = []
    for group, when, levels in servers:
        fit = calibrating.fit(levels, levels[0].node.efficiency)
        show_fit(group.server_id, fit)
        fits.append((when, fit, f"fitted to {len(levels)} levels of {run.name}"))
    note = f"Fitted to rows of {run.name}. For other servers, the calibration assumes the values of `{base.name}`."
    return observed.calibration(name or run.name, note, base, fits)


def show_fit(model: str, fit: Fit) -> None:
    """Print the fitted values with their intervals, then the error of each level."""
    from rocbench import console

    console.show_rows(
        [model, "fitted", "95 % interval", ""],
        [
            [
                p.name,
                f"{p.value:.4g}",
                f"{p.low:.3g} to {p.high:.3g}",
                "" if p.decided else "the measured load levels do not determine this value",
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

"""`bench predict` and `bench calibrate-model`: sweeps in virtual time, and the calibration of their step times."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import typer

from rocbench.commands import options
from rocbench.errors import InputError
from rocbench.units import percent

if TYPE_CHECKING:
    from rocbench.predict.calibrating import Fit
    from rocbench.sim.calibration import Accuracy, Calibration
    from rocbench.tables.row import Row

Allow = Annotated[
    bool,
    typer.Option("--allow-simulated", help="Accept simulated rows: this tests the fit, not the hardware."),
]


class Fitted(Protocol):
    """A fit to another source than a run folder."""

    def __call__(
        self, run: str, base: Calibration, name: str | None, /, *, leave_out: bool
    ) -> Calibration | None:
        """Return the calibration; None for a RUN of another kind."""
        ...


fitted_elsewhere: list[Fitted] = []
"""Fits to sources other than run folders, called with RUN, --from and --name. Packages that the core does not import
(study/) add theirs."""


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
        rows = folder.rows
    else:
        rows = [prediction.row for prediction in predicting.predictions(plan)]
        endtable.show(rows, console.out())
    show_intervals(rows)
    console.say(f"PREDICTED with calibration {cal.name}: {summary(cal)}")


def show_intervals(rows: Sequence[Row]) -> None:
    """Print the prediction intervals of each level, their origin, and how far a level is from the fitted ones."""
    from rocbench import console
    from rocbench.report import predicted

    table = predicted.table(rows)
    if table.rows:
        console.say(f"{table.title}:")
        console.show_text(table.header, table.rows)
    for note in predicted.notes(rows):
        console.say(note)


def summary(cal: Calibration) -> str:
    """Describe a calibration in one line."""
    if not cal.errors:
        return f"{cal.what}, not fitted to any row"
    return f"{cal.what} to {', '.join(cal.errors)}"


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
    no_intervals: Annotated[
        bool,
        typer.Option(
            "--no-intervals",
            help="Leave no levels out: half the time, but predictions have no intervals.",
        ),
    ] = False,
) -> None:
    """Fit the hardware model's efficiencies (bandwidth, compute, links, overheads) to measured rows, and print the error that remains for each row."""
    from rocbench import console
    from rocbench.predict import calibrating
    from rocbench.sim import calibration as calibrations

    if out is not None and not out.parent.is_dir():
        raise InputError("the folder of --out does not exist", where=str(out), fix=f"mkdir -p {out.parent}")
    base = calibrations.read_calibration(assumed)
    leave_out = not no_intervals
    others = (fit(run, base, name, leave_out=leave_out) for fit in fitted_elsewhere)
    calibration = next(filter(None, others), None) or _of_run(
        Path(run), base, name, allow=allow_simulated, leave_out=leave_out
    )
    target = out or Path(f"{calibration.name}.yaml")
    target.write_text(calibrating.document(calibration), encoding="utf-8")
    console.say(f"written: {target}; use it with --calibration {target}")


def _of_run(run: Path, base: Calibration, name: str | None, *, allow: bool, leave_out: bool) -> Calibration:
    from rocbench.conduct import rows as tables
    from rocbench.predict import calibrating, leaveout, observed
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
    fits, accuracies = [], []
    for group, when, levels in servers:
        start = levels[0].node.efficiency
        fit = calibrating.fit(levels, start)
        show_fit(group.server_id, fit)
        if leave_out:
            accuracy = leaveout.accuracy(levels, fit, start, calibrating.FREE, when)
            show_accuracy(accuracy)
            accuracies.append(accuracy)
        fits.append((when, fit, f"fitted to {len(levels)} levels of {run.name}"))
    note = f"Fitted to rows of {run.name}. For other servers, the calibration assumes the values of `{base.name}`."
    return observed.calibration(name or run.name, note, base, fits, accuracies)


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


def show_accuracy(accuracy: Accuracy) -> None:
    """Print the errors of levels that were left out, and how many were within their interval."""
    from rocbench import console
    from rocbench.predict import intervals
    from rocbench.report import predicted

    model = accuracy.when.model
    figures = list(dict.fromkeys(name for each in accuracy.left_out for name in each.errors))
    if not figures:
        console.say(f"{model}: all levels have one load and length: predictions have no interval")
        return
    console.show_rows(
        [
            "errors out of sample: left out",
            "levels",
            "outside by",
            *(predicted.NAMES.get(name, name) for name in figures),
        ],
        [
            [
                each.what,
                str(each.levels),
                f"x{math.exp(each.distance):.1f}" if each.distance else "-",
                *(percent(math.expm1(each.errors[name])) if name in each.errors else "-" for name in figures),
            ]
            for each in accuracy.left_out
        ],
    )
    for name in figures:
        covered, of = intervals.coverage(accuracy.left_out, name)
        near = intervals.spread(accuracy.left_out, name).factor(0.0)
        console.say(
            f"{model}: {name}: 95 % interval within the fitted loads: -{1 - 1 / near:.0%} to +{near - 1:.0%};"
            f" {covered} of {of} leave-outs were within theirs"
        )


def _miss(miss: Any) -> str:
    return "-" if miss is None else f"{miss.measured:,.1f}  {miss.predicted:,.1f}  {miss.error:+.1%}"

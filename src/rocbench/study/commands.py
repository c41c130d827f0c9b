"""`bench study`: plan, run and report a whole study, and compare its published tables with a prediction."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rocbench.commands import predictions
from rocbench.errors import ConfigError, InputError
from rocbench.units import duration, percent

if TYPE_CHECKING:
    from rocbench.plan.expand import Plan
    from rocbench.sim.calibration import Calibration
    from rocbench.store.folder import RunFolder
    from rocbench.study.budget import Selection
    from rocbench.study.folder import StudyFolder
    from rocbench.study.hours import NodeOf, NodeTime
    from rocbench.study.parts import Kind, StudyPart
    from rocbench.study.schema import Tables

app = typer.Typer(
    name="study",
    help="Repeat a published study: run its sweeps with the original method and with a corrected one.",
    no_args_is_help=True,
)

Name = Annotated[str, typer.Argument(metavar="STUDY", help="A study's name, or the path of its folder.")]
MethodName = Annotated[
    str | None, typer.Option("--method", help="Use only this method: replay or corrected. Default: both.")
]
Variant = Annotated[
    str | None,
    typer.Option("--variant", help="Use only this vLLM version, for example 0.33.0. Default: all."),
]
Budget = Annotated[
    str | None,
    typer.Option(
        help="Limit the node time, for example 8h or 90m; the runs that matter most for the study's questions are kept."
    ),
]
SCALES = ("full", "small")


@app.command()
def plan(
    study: Name,
    method: MethodName = None,
    variant: Variant = None,
    price_per_hour: Annotated[
        float | None, typer.Option(min=0, help="Price of a node hour, in any currency.")
    ] = None,
    budget: Budget = None,
) -> None:
    """Print every server command. For each part, also print its node hours, its cost, and how much of its node hours is spent measuring. Starts nothing."""
    from rocbench.study import budget as budgets
    from rocbench.study import folder, hours

    if price_per_hour is not None and not math.isfinite(price_per_hour):
        raise InputError("must be a finite number", where="--price-per-hour", fix="for example 20")
    source = folder.read(study)
    parts = _parts(source, method, variant)
    if budget is not None:
        selection = budgets.choose(parts, source.study.questions, _seconds(budget), _nodes)
        _show_selection(selection, price_per_hour)
        parts = list(selection.parts)
    _show_commands(parts)
    times = [hours.of_plan(part.plan, _nodes(part)) for part in parts]
    _show_hours(source, parts, times, price_per_hour)


def _parts(
    source: StudyFolder,
    method: str | None,
    variant: str | None,
    kind: Kind | None = None,
    *,
    small: bool = False,
) -> list[StudyPart]:
    """Return the study's parts.

    Raises:
        ConfigError: plans have faults; the message lists all.
    """
    from rocbench.commands import planning
    from rocbench.study.parts import parts

    found = parts(source, planning.sources, method=method, variant=variant, kind=kind, small=small)
    faults = [f"{part.id}: {fault.where}: {fault.message}" for part in found for fault in part.plan.faults]
    if faults:
        raise ConfigError("\n".join(faults))
    return found


def _nodes(part: StudyPart) -> NodeOf:
    """Return the step times of a part's servers, by its calibration."""
    from rocbench.predict import predicting
    from rocbench.sim import calibration

    cal = calibration.read_calibration(part.plan.sweep.simulation.calibration)
    return lambda group: predicting.node_of(group, part.plan.sweep, cal)


def _seconds(text: str) -> float:
    """Parse `8h`, `90m` or `30s` as seconds."""
    try:
        seconds = float(text[:-1]) * {"h": 3600.0, "m": 60.0, "s": 1.0}[text[-1:]]
    except (ValueError, KeyError):
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise InputError(f"cannot read {text!r}", where="--budget", fix="for example 8h or 90m")
    return seconds


def _show_commands(parts: Sequence[StudyPart]) -> None:
    """Print each server's command once, with the parts that start it."""
    from rocbench import console
    from rocbench.server.command import shell_line

    names: dict[tuple[str, str | None], list[str]] = {}
    for part in parts:
        for group in part.plan.groups:
            if group.resolution is not None:
                line = shell_line(("vllm", "serve", *group.resolution.argv()), group.resolution.environment())
                names.setdefault((line, group.vllm), []).append(f"{part.id}: {group.model}")
    for (line, vllm), users in names.items():
        console.say(f"\n{', '.join(users)}  (vLLM {vllm})")
        print(f"  {line}")  # noqa: T201 - unwrapped: a line to paste must stay one line


def _show_hours(
    source: StudyFolder, parts: Sequence[StudyPart], times: Sequence[NodeTime], price: float | None
) -> None:
    from rocbench import console
    from rocbench.study.hours import NodeTime

    methods = dict.fromkeys(part.method for part in parts)
    named = [(part.id, time) for part, time in zip(parts, times, strict=True)]
    for method in methods:
        of_method = (time for part, time in zip(parts, times, strict=True) if part.method == method)
        named.append((f"all of {method}", sum(of_method, NodeTime())))
    named.append(("all", sum(times, NodeTime())))
    rows = [
        [
            name,
            str(time.loads),
            str(time.runs),
            f"{time.total_s / 3600:.1f}",
            f"{time.load_s / 3600:.1f}",
            percent(time.share, 0),
            *_cost(time, price),
        ]
        for name, time in named
    ]
    cost = ["cost"] if price is not None else []
    console.say("")
    console.show_rows(["part", "starts", "runs", "hours", "hours loading", "measured", *cost], rows)
    for name in methods:
        console.say(f"{name}: {source.study.methods[name].what}")
    console.say(
        "hours are estimated from a model of the hardware, each part's calibration, and server start times; the measured"
        " time of a replay also includes ramp-up and ramp-down, as in the study"
    )


def _cost(time: NodeTime, price: float | None) -> list[str]:
    """Return the cell of the cost; none without a price per hour."""
    return [] if price is None else [f"{time.total_s / 3600 * price:,.0f}"]


def _show_selection(selection: Selection, price: float | None) -> None:
    from rocbench import console

    rows = [
        [
            "kept" if choice.kept else "dropped",
            choice.question.asks,
            f"{choice.question.sweep}-{choice.question.variant}",
            str(choice.added.runs),
            f"{choice.added.total_s / 3600:.1f}",
            *_cost(choice.added, price),
        ]
        for choice in selection.choices
        if choice.added.runs
    ]
    cost = ["cost"] if price is not None else []
    console.show_rows(["", "question, most decisive first", "part", "runs", "hours", *cost], rows)
    console.say(f"kept: {duration(selection.total.total_s)} of node time")


def _published(source: StudyFolder, calibration: str | None) -> tuple[Tables, Mapping[str, Plan]]:
    """Return a study's tables, and for each of their sweeps the plan in virtual time.

    Raises:
        InputError: the study has no tables.
    """
    from rocbench.commands import planning
    from rocbench.plan.expand import Overrides
    from rocbench.predict import predicting

    if source.tables is None:
        raise InputError("this study has no published tables", where=str(source.path))
    sweeps = {curve.sweep for curve in source.tables.curves}
    plans = {
        name: predicting.plan(sweep, planning.sources(sweep, Overrides()), None, calibration)
        for name, sweep in source.sweeps.items()
        if name in sweeps
    }
    return source.tables, plans


@app.command()
def run(
    study: Name,
    method: MethodName = None,
    variant: Variant = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the study's runs. Default: results/STUDY.")
    ] = None,
    simulate: Annotated[
        bool, typer.Option("--simulate", help="Use simulated servers over HTTP instead of vLLM.")
    ] = False,
    virtual: Annotated[
        bool, typer.Option("--predict", help="Predict the results without servers, like `bench predict`.")
    ] = False,
    container: Annotated[
        bool,
        typer.Option("--container", help="Start each server in a container, from the image in its profile."),
    ] = False,
    scale: Annotated[
        str,
        typer.Option(
            help="Run all levels (full), or only a few (small); small takes minutes with --simulate."
        ),
    ] = "full",
    budget: Budget = None,
    reap: Annotated[
        bool, typer.Option("--reap", help="Stop servers that an earlier bench left running.")
    ] = False,
) -> None:
    """Run the study and write its report. If --out is the folder of an earlier run, resume that run."""
    from rocbench import console
    from rocbench.study import budget as budgets
    from rocbench.study import conduct, folder

    small = _small(scale)
    source = folder.read(study)
    kind: Kind = "simulated" if simulate or virtual else "container" if container else "process"
    parts = _parts(source, method, variant, kind, small=small)
    if budget is not None:
        parts = list(budgets.choose(parts, source.study.questions, _seconds(budget), _nodes).parts)
    if not parts:
        raise InputError(
            "no part of the study is left to run with these options (--budget, --method, --variant, --scale)",
            where=study,
            fix="run bench study plan to see how many hours each part takes",
        )
    target = out or Path("results") / source.study.name
    with console.screen() as screen:
        done = conduct.run(parts, target, screen, virtual=virtual, reap=reap)
    _report(source, [(each.part, each.folder) for each in done], target, small=small)
    raise typer.Exit(max(int(each.exit_code) for each in done))


@app.command()
def report(
    study: Name,
    runs: Annotated[
        Path | None, typer.Option("--from", help="Folder of the study's runs. Default: results/STUDY.")
    ] = None,
    scale: Annotated[str, typer.Option(help="Scale of the runs: full or small.")] = "full",
) -> None:
    """Write the report on a study's runs: all tables, the figures that the method distorts, and the published figures for comparison."""
    from rocbench.study import conduct, folder

    small = _small(scale)
    source = folder.read(study)
    target = runs or Path("results") / source.study.name
    parts = _parts(source, None, None, small=small)
    _report(source, conduct.folders(target, parts), target, small=small)


def _small(scale: str) -> bool:
    """Return True for the reduced study."""
    if scale not in SCALES:
        raise InputError(f"unknown scale {scale!r}", where="--scale", fix=f"known: {', '.join(SCALES)}")
    return scale == "small"


def _report(
    source: StudyFolder, done: Sequence[tuple[StudyPart, RunFolder]], target: Path, *, small: bool
) -> None:
    """Write the report on all runs, and print and write the figures that are artefacts of the harness."""
    from rocbench import console
    from rocbench.report import write
    from rocbench.report.table import table_markdown
    from rocbench.store import writing
    from rocbench.study import results

    rows = [(part, run_.rows) for part, run_ in done]
    void = results.void(source.study, rows)
    written = write.report([run_ for _, run_ in done], target / "report", with_study=True, more_tables=void)
    if written.banner[0]:
        console.say(": ".join(written.banner))
    published = results.published(None if small else source.tables, rows)
    tables = [results.artefacts(source.study, rows), *published]
    for table in tables:
        console.show_rows(table.header, table.rows, table.title)
    page = target / "report" / "artefacts.md"
    writing.output_file(page, "\n".join(table_markdown(table, "#") for table in tables))
    for path in (*written.paths, page):
        console.say(str(path))


@app.command()
def errors(
    study: Name,
    calibration: Annotated[
        str | None,
        typer.Option(help="Use this calibration: a name or a file. Default: each sweep's own calibration."),
    ] = None,
) -> None:
    """Predict the study's results with its original method, and print the error of each prediction against the published figure."""
    from rocbench import console
    from rocbench.predict import predicting
    from rocbench.study import agreement, folder, results

    tables, plans = _published(folder.read(study), calibration)
    rows = [each.row for plan_ in plans.values() for each in predicting.predictions(plan_)]
    levels = agreement.predicted_levels(tables, plans, rows)
    for table in (results.published_levels(levels), results.errors(levels)):
        console.show_rows(table.header, table.rows, table.title)


def calibration(study: str, base: Calibration, name: str | None, *, leave_out: bool) -> Calibration | None:
    """Return the calibration that `bench calibrate-model STUDY` writes; None if the name is not a study."""
    from rocbench.study import fitting, folder

    if study not in folder.names() and not (Path(study) / "study.yaml").is_file():
        return None
    source = folder.read(study)
    tables, plans = _published(source, base.name)
    fits = []
    for each in fitting.fit_tables(tables, plans, base, leave_out=leave_out):
        predictions.show_fit(each.model, each.fit)
        if each.accuracy:
            predictions.show_accuracy(each.accuracy)
        fits.append(each)
    return fitting.calibration(name or f"study-{source.study.name}", source.study.source, fits, tables, base)


predictions.fitted_elsewhere.append(calibration)

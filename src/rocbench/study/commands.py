"""`bench study`: plan, run and report a whole study, and compare its published tables with a prediction."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rocbench.commands import predictions
from rocbench.errors import ConfigError, InputError
from rocbench.units import duration

if TYPE_CHECKING:
    from rocbench.plan.expand import Plan
    from rocbench.sim.calibration import Calibration
    from rocbench.store.folder import RunFolder
    from rocbench.study.agreement import Line
    from rocbench.study.budget import Chosen
    from rocbench.study.folder import StudyFolder
    from rocbench.study.hours import NodeOf, Time
    from rocbench.study.parts import Kind, Part
    from rocbench.study.schema import Tables

app = typer.Typer(
    name="study",
    help="A whole study: its sweeps under its own method and under a corrected one.",
    no_args_is_help=True,
)

Name = Annotated[str, typer.Argument(metavar="STUDY", help="A study's name, or the path of its folder.")]
MethodName = Annotated[str | None, typer.Option("--method", help="replay or corrected; default both.")]
Variant = Annotated[str | None, typer.Option("--variant", help="Only this vLLM, for example 0.33.0.")]
Budget = Annotated[
    str | None, typer.Option(help="Node time, 8h or 90m: keep what decides most and fits into it.")
]
SCALES = ("full", "small")


@app.command()
def plan(
    study: Name,
    method: MethodName = None,
    variant: Variant = None,
    price_per_hour: Annotated[float | None, typer.Option(min=0, help="Of the node, in any currency.")] = None,
    budget: Budget = None,
) -> None:
    """Print every server command, node hours, the share of them that is measured, and the cost. Starts nothing."""
    from rocbench.study import budget as budgets
    from rocbench.study import folder, hours

    if price_per_hour is not None and not math.isfinite(price_per_hour):
        raise InputError("must be a number", where="--price-per-hour", fix="give 20")
    found = folder.read(study)
    made = _parts(found, method, variant)
    if budget is not None:
        chosen = budgets.choose(made, found.study.questions, _seconds(budget), _nodes)
        _show_choices(chosen, price_per_hour)
        made = list(chosen.parts)
    _show_commands(made)
    times = [hours.of_plan(part.plan, _nodes(part)) for part in made]
    _show_hours(found, made, times, price_per_hour)


def _parts(
    found: StudyFolder,
    method: str | None,
    variant: str | None,
    kind: Kind | None = None,
    *,
    small: bool = False,
) -> list[Part]:
    """Return the study's parts; all faults of all plans come in one message."""
    from rocbench.commands import planning
    from rocbench.study import parts

    made = parts.parts(found, planning.sources, method=method, variant=variant, kind=kind, small=small)
    faults = [f"{part.id}: {fault.where}: {fault.message}" for part in made for fault in part.plan.faults]
    if faults:
        raise ConfigError("\n".join(faults))
    return made


def _nodes(part: Part) -> NodeOf:
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
        raise InputError(f"cannot read {text!r}", where="--budget", fix="give 8h or 90m")
    return seconds


def _show_commands(made: Sequence[Part]) -> None:
    """Print each server's command once, with the parts that start it."""
    from rocbench import console
    from rocbench.server.command import shell_line

    users: dict[tuple[str, str | None], list[str]] = {}
    for part in made:
        for group in part.plan.groups:
            if group.resolution is not None:
                line = shell_line(("vllm", "serve", *group.resolution.argv()), group.resolution.environment())
                users.setdefault((line, group.vllm), []).append(f"{part.id}: {group.model}")
    for (line, vllm), names in users.items():
        console.say(f"\n{', '.join(names)}  (vLLM {vllm})")
        print(f"  {line}")  # noqa: T201 - unwrapped: a line to paste must stay one line


def _show_hours(found: StudyFolder, made: Sequence[Part], times: Sequence[Time], price: float | None) -> None:
    from rocbench import console
    from rocbench.study.hours import Time

    header = [
        "part",
        "starts",
        "runs",
        "hours",
        "of it loading",
        "measured",
        *(["cost"] if price is not None else []),
    ]
    rows = [_time_row(part.id, time, price) for part, time in zip(made, times, strict=True)]
    for method in dict.fromkeys(part.method for part in made):
        mine = [time for part, time in zip(made, times, strict=True) if part.method == method]
        rows.append(_time_row(f"all of {method}", sum(mine, Time()), price))
    rows.append(_time_row("all", sum(times, Time()), price))
    console.say("")
    console.show_rows(header, rows)
    for name, method_ in found.study.methods.items():
        if any(part.method == name for part in made):
            console.say(f"{name}: {method_.what}")
    console.say(
        "hours: from the physics, the calibration of each part and load times; replay counts as measured what the"
        " study would have measured, filling and emptying included"
    )


def _time_row(name: str, time: Time, price: float | None) -> list[str]:
    share = "-" if time.share is None else f"{time.share:.0%}"
    cost = [f"{time.total_s / 3600 * price:,.0f}"] if price is not None else []
    hours_ = f"{time.total_s / 3600:.1f}"
    return [name, str(time.loads), str(time.runs), hours_, f"{time.load_s / 3600:.1f}", share, *cost]


def _show_choices(chosen: Chosen, price: float | None) -> None:
    from rocbench import console

    rows = [
        [
            "kept" if choice.kept else "left out",
            choice.question.asks,
            f"{choice.question.sweep}-{choice.question.variant}",
            str(choice.added.runs),
            f"{choice.added.total_s / 3600:.1f}",
            *([f"{choice.added.total_s / 3600 * price:,.0f}"] if price is not None else []),
        ]
        for choice in chosen.choices
        if choice.added.runs
    ]
    console.show_rows(
        [
            "",
            "question, by what it decides",
            "part",
            "runs",
            "hours",
            *(["cost"] if price is not None else []),
        ],
        rows,
    )
    console.say(f"kept: {duration(chosen.total.total_s)} of node time")


def published(found: StudyFolder, calibration: str | None) -> tuple[Tables, Mapping[str, Plan]]:
    """Return a study's tables, and for each of their sweeps the plan in virtual time.

    Raises:
        InputError: the study has no tables.
    """
    from rocbench.commands import planning
    from rocbench.plan.expand import Overrides
    from rocbench.predict import predicting

    if found.tables is None:
        raise InputError("this study has no published tables", where=str(found.path))
    wanted = dict.fromkeys(curve.sweep for curve in found.tables.curves)
    plans = {
        name: predicting.plan(sweep, planning.sources(sweep, Overrides()), None, calibration)
        for name, sweep in found.sweeps.items()
        if name in wanted
    }
    return found.tables, plans


@app.command()
def run(
    study: Name,
    method: MethodName = None,
    variant: Variant = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the study's runs; default results/STUDY.")
    ] = None,
    simulate: Annotated[bool, typer.Option("--simulate", help="On simulated servers, over HTTP.")] = False,
    virtual: Annotated[
        bool, typer.Option("--predict", help="In virtual time, without servers, as bench predict.")
    ] = False,
    container: Annotated[bool, typer.Option("--container", help="Servers in the profiles' images.")] = False,
    scale: Annotated[
        str, typer.Option(help="full, or small: a few levels, minutes with --simulate.")
    ] = "full",
    budget: Budget = None,
    reap: Annotated[
        bool, typer.Option("--reap", help="End servers that an earlier bench left behind.")
    ] = False,
) -> None:
    """Run the study and write its report; with the same --out, go on where it was left."""
    from rocbench import console
    from rocbench.study import budget as budgets
    from rocbench.study import conduct, folder

    small = _small(scale)
    found = folder.read(study)
    kind: Kind = "simulated" if simulate or virtual else "container" if container else "process"
    made = _parts(found, method, variant, kind, small=small)
    if budget is not None:
        made = list(budgets.choose(made, found.study.questions, _seconds(budget), _nodes).parts)
    if not made:
        raise InputError(
            "--budget, --method, --variant and --scale leave nothing to run",
            where=study,
            fix="bench study plan says what each part takes",
        )
    target = out or Path("results") / found.study.name
    with console.screen() as screen:
        done = conduct.run(made, target, screen, virtual=virtual, reap=reap)
    _report(found, [(each.part, each.folder) for each in done], target, small=small)
    raise typer.Exit(max(int(each.exit_code) for each in done))


@app.command()
def report(
    study: Name,
    runs: Annotated[
        Path | None, typer.Option("--from", help="Folder of the study's runs; default results/STUDY.")
    ] = None,
    scale: Annotated[str, typer.Option(help="As it was run: full or small.")] = "full",
) -> None:
    """Write the report on a study's runs: all its tables, its artefacts, and the published figures beside them."""
    from rocbench.study import conduct, folder

    small = _small(scale)
    found = folder.read(study)
    target = runs or Path("results") / found.study.name
    made = _parts(found, None, None, small=small)
    _report(found, conduct.folders(target, made), target, small=small)


def _small(scale: str) -> bool:
    """Return whether the study is the reduced one."""
    if scale not in SCALES:
        raise InputError(f"no scale {scale!r}", where="--scale", fix=f"known: {', '.join(SCALES)}")
    return scale == "small"


def _report(found: StudyFolder, done: Sequence[tuple[Part, RunFolder]], target: Path, *, small: bool) -> None:
    """Return the report on all runs, with the artefacts that come from the harness."""
    from rocbench import console
    from rocbench.report import write
    from rocbench.report.table import table_markdown
    from rocbench.store import writing
    from rocbench.study import results

    rows = [(part, run_.rows) for part, run_ in done]
    own = results.void(found.study, rows)
    written = write.report([run_ for _, run_ in done], target / "report", with_study=True, more_tables=own)
    if written.banner[0]:
        console.say(": ".join(written.banner))
    tables = [results.artefacts(found.study, rows), *results.published(None if small else found.tables, rows)]
    for table in tables:
        console.show_rows(list(table.header), [list(map(str, row)) for row in table.rows], table.title)
    page = target / "report" / "artefacts.md"
    writing.output_file(page, "\n".join(table_markdown(table, "#") for table in tables))
    for path in (*written.paths, page):
        console.say(str(path))


@app.command()
def errors(
    study: Name,
    calibration: Annotated[
        str | None, typer.Option(help="Name or file of a calibration; default the sweeps' own.")
    ] = None,
) -> None:
    """Predict the study under its own method and print how far each published figure is off."""
    from rocbench import console
    from rocbench.report.table import Table
    from rocbench.study import folder, results

    lines = predicted_lines(folder.read(study), calibration)
    for cells in (
        Table("", "", results.LINES, tuple(map(results.line_cells, lines))),
        results.summary(lines),
    ):
        console.show_rows(list(cells.header), [list(row) for row in cells.rows], cells.title)


def predicted_lines(found: StudyFolder, calibration: str | None = None) -> list[Line]:
    """Return every published level with its prediction."""
    from rocbench.predict import predicting
    from rocbench.study import agreement

    tables, plans = published(found, calibration)
    rows = [found_.row for plan_ in plans.values() for found_ in predicting.predictions(plan_)]
    return agreement.lines(tables, plans, rows)


def calibration(study: str, base: Calibration, name: str | None) -> Calibration | None:
    """Return the calibration that `bench calibrate-model STUDY` writes; None if the name is not a study."""
    from rocbench.study import fitting, folder

    if study not in folder.names() and not (Path(study) / "study.yaml").is_file():
        return None
    found = folder.read(study)
    tables, plans = published(found, base.name)
    fits = []
    for each in fitting.fit_tables(tables, plans, base):
        predictions.show_fit(each.model, each.fit)
        fits.append(each)
    return fitting.calibration(name or f"study-{found.study.name}", found.study.source, fits, tables, base)


predictions.fitted_elsewhere.append(calibration)

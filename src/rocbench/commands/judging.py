"""`bench compare`, `bench ablate`, `bench gate`: better, worse, same, or cannot tell."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import typer

from rocbench import harmless
from rocbench.commands import compared, options
from rocbench.errors import EnvironmentFault, Exit, InputError

if TYPE_CHECKING:
    import pandas as pd

    from rocbench.judgement.factorial import Levels
    from rocbench.judgement.verdicts import Settings

Format = Literal["table", "csv", "json", "md"]

MinEffect = Annotated[
    str,
    options.option("SHARE", "Treat relative changes below this share as no change, for example 2% or 0.02."),
]
History = Annotated[
    str | None,
    options.option(
        "DIR",
        "Learn how far nights differ from the runs in this folder that measured the same cells; `none`: from no other "
        "run. Default: the folder of the compared runs.",
    ),
]
Looks = Annotated[
    int | None,
    options.option(
        "N",
        "Keep the error rate although repeats are judged up to N times, as they come. Default: as often as the runs' own "
        "`until` looks, else once.",
        min=1,
        max=1000,
    ),
]
FormatOption = Annotated[
    Format, typer.Option("--format", metavar="FORMAT", help="Print a table, csv, json or md.")
]


def compare(
    a: Annotated[str, typer.Argument(metavar="A", help="Base: a run, a folder of runs, or a cells file.")],
    b: Annotated[
        str | None, typer.Argument(metavar="B", help="Compared with the base: a run, folder or cells file.")
    ] = None,
    arms: Annotated[
        str | None,
        options.option(
            "NAME[=BASE,LEVEL]",
            "Compare two arms of run A instead of runs A and B, for example aiter=off,on.",
        ),
    ] = None,
    metric: options.Metrics = None,
    min_effect: MinEffect = "2%",
    history: History = None,
    looks: Looks = None,
    allow: Annotated[
        list[str] | None,
        options.option("COLUMN", "Allow this column to differ, for example hardware. Repeatable."),
    ] = None,
    include_invalid: options.IncludeInvalid = False,
    format_: FormatOption = "table",
) -> None:
    """Compare runs cell by cell over their repeats, with Holm's correction over all verdicts."""
    from rocbench.judgement import advice, render
    from rocbench.judgement import compare as library

    if (b is None) == (arms is None):
        raise InputError("two sides are needed", fix="give A and B, or A and --arms NAME")
    looks = looks or compared.looks([a] if b is None else [a, b])
    settings = _settings(metric, min_effect, allow, include_invalid, looks)
    notes: tuple[str, ...] = ()
    names = (a, b or "")
    if b is not None:
        base, other, notes = compared.sides(a, b)
        short = (compared.title(a), compared.title(b))
        names = short if short[0] != short[1] else names
    else:
        assert arms is not None
        base, other, names = _split(compared.cells(a), arms, _planned_factors(a))
    past = None if b is None else compared.history(history, [a, b], (base, other))
    result = library.compare(base, other, settings, notes, past)
    facts = {
        "a": names[0],
        "b": names[1],
        "simulated": bool(result.synthetic),
        "predicted": "predicted" in result.synthetic,
        "differs": result.differs,
        "only_a": result.only_a,
        "only_b": result.only_b,
        "notes": result.notes,
        "advice": advice.lines(result.table, result.design, settings),
    }
    _print_verdicts(result.table, format_, partial(render.comparison, result, names=names), facts)


def ablate(
    runs: Annotated[
        list[str] | None, typer.Argument(metavar="RUN", help="Runs of a sweep with factors.")
    ] = None,
    factor: Annotated[
        list[str] | None,
        options.option(
            "NAME=BASE,LEVEL...",
            "Judge this factor at these levels, base first. Repeatable. Default: the sweep's factors.",
        ),
    ] = None,
    table: Annotated[
        str | None, options.option("FILE", "Judge this published table of means (YAML) instead of runs.")
    ] = None,
    metric: options.Metrics = None,
    min_effect: MinEffect = "2%",
    looks: Looks = None,
    include_invalid: options.IncludeInvalid = False,
    format_: FormatOption = "table",
) -> None:
    """Print effect, interval and verdict for each factor of an ablation, and the change in variability."""
    from rocbench.judgement import ablate as library
    from rocbench.judgement import advice, render

    if bool(runs) == (table is not None):
        raise InputError("either runs or --table is needed", fix="give run folders, or --table FILE")
    looks = looks or compared.looks(runs or [])
    settings = _settings(metric, min_effect, None, include_invalid, looks)
    if table is not None:
        _published(table, settings, format_)
    assert runs is not None
    frame = compared.cells(*runs)
    factors: Levels = _factors(factor) if factor else _planned_factors(runs[0])
    if not factors:
        raise InputError(
            "this run has no factors",
            where=runs[0],
            fix="name the factors, for example --factor aiter=off,on",
        )
    result = library.ablate(frame, factors, settings)
    facts = {
        "factors": result.factors,
        "simulated": bool(result.synthetic),
        "predicted": "predicted" in result.synthetic,
        "notes": result.notes,
        "advice": advice.of_ablation(result.table, settings),
    }
    _print_verdicts(result.table, format_, partial(render.ablation, result), facts)


def _published(name: str, settings: Settings, format_: Format) -> NoReturn:
    """Judge a published table of means, level by level."""
    from rocbench.judgement import published, render
    from rocbench.settings import catalog, yamlfile

    table = yamlfile.load(catalog.path_of("published", name), published.PublishedTable)
    result = published.read(table, min_effect=settings.min_effect, alpha=settings.alpha)
    facts = {
        "title": table.title,
        "source": table.source,
        "spread": result.spread,
        "spread_ratio": result.spread_ratio,
        "notes": result.notes,
    }
    _print_verdicts(result.table, format_, partial(render.reading, table, result), facts)


def _print_verdicts(
    table: pd.DataFrame, format_: Format, text: Callable[..., str], facts: Mapping[str, Any]
) -> NoReturn:
    """Print a table of verdicts and exit: 1 if anything is worse, 3 if every verdict is "cannot tell", else 0.

    Args:
        table: the verdicts; all of the CSV, and the rows of the JSON.
        format_: the format.
        text: renders text or Markdown; called with `as_markdown` and `width`.
        facts: additional keys of the JSON.
    """
    from rocbench import console
    from rocbench.judgement import render

    match format_:
        case "csv":
            output = render.as_csv(table)
        case "json":
            output = render.as_json(table, **facts)
        case _:
            output = text(as_markdown=format_ == "md", width=console.out().width)
    typer.echo(output, nl=False)
    words = set(table["verdict"])
    if "worse" in words:
        raise typer.Exit(int(Exit.DONE_WITH_FAULTS))
    raise typer.Exit(int(Exit.CANNOT_TELL if words == {"cannot tell"} else Exit.DONE))


def gate(
    run: options.Run,
    baseline: Annotated[
        str | None,
        options.option(
            "RUN",
            "Compare with this baseline: a run, `latest` (the run before RUN), or a cells file. "
            "Needed by rules on changes (`relative`); rules with limits alone do without.",
        ),
    ] = None,
    rules: Annotated[
        Path | None,
        options.option(
            "FILE",
            "Use the rules of this gate.yaml. Default: at most 5 % worse in throughput and TPOT, 10 % in TTFT.",
        ),
    ] = None,
    history: History = None,
    junit: Annotated[Path | None, options.option("FILE", "Write JUnit XML to this file.")] = None,
    markdown: Annotated[Path | None, options.option("FILE", "Write a Markdown summary to this file.")] = None,
    as_json: options.AsJson = False,
) -> None:
    """Check a run against a baseline and limits. Exit code 0: pass, 1: regression, 3: cannot tell."""
    from rocbench import console
    from rocbench.judgement import gate as library
    from rocbench.judgement import gatereport, gaterules
    from rocbench.settings import yamlfile

    gate_rules = yamlfile.load(rules, gaterules.GateRules) if rules else gaterules.GateRules()
    folder = options.one_run(run)
    gate_rules = gate_rules.model_copy(update={"looks": max(gate_rules.looks, compared.looks([run]))})
    cells = compared.filled(folder.cells(), run)
    against, notes = compared.baseline(folder, baseline) if baseline is not None else (None, ())
    past = compared.history(history, [run], (cells, *([] if against is None else [against])))
    if baseline == "latest" and against is None:
        result = library.without_baseline(cells, gate_rules, "there is no earlier run of this sweep", past)
    else:
        result = library.gate(cells, against, gate_rules, notes, past)
    title = f"Performance gate of {folder.path.name}"
    if junit is not None:
        _write(junit, gatereport.junit(result, title))
    if markdown is not None:
        _write(markdown, gatereport.gate_page(result, title))
    typer.echo(
        harmless.json_text(gatereport.as_dict(result))
        if as_json
        else gatereport.text(result, console.out().width)
    )
    raise typer.Exit(int(result.exit_code))


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise EnvironmentFault(f"cannot be written: {error.strerror}", where=str(path)) from None


# --- settings


def _settings(
    metric: list[str] | None,
    min_effect: str,
    allow: list[str] | None,
    include_invalid: bool,
    looks: int,
) -> Settings:
    """Return the options as settings.

    Raises:
        InputError: a share cannot be read, or a column is not a guard.
    """
    from rocbench.judgement.compare import GUARDS
    from rocbench.judgement.verdicts import DEFAULT_METRICS, Settings

    unknown = set(allow or ()) - set(GUARDS)
    if unknown:
        raise InputError(
            f"unknown guard: {', '.join(sorted(unknown))}",
            where="--allow",
            fix=f"give one of {', '.join(GUARDS)}",
        )
    return Settings(
        metrics=tuple(metric or DEFAULT_METRICS),
        min_effect=_share(min_effect),
        looks=looks,
        allow=frozenset(allow or ()),
        include_invalid=include_invalid,
    )


def _share(text: str) -> float:
    from rocbench.settings.goals import percent_as_share

    try:
        share = float(percent_as_share(text))
    except ValueError:
        share = -1.0
    if not 0 <= share < 1:
        raise options.unreadable(text, "--min-effect", "a share: 2% or 0.02")
    return share


# --- arms and factors


def _planned_factors(name: str) -> Levels:
    """Return the factors of a run's sweep; empty if it has none."""
    if Path(name).is_file():
        return {}
    plan = options.runs([name])[0].read_json("plan.json") or {}
    return dict((plan.get("sweep") or {}).get("factors") or {})


def _factors(items: list[str]) -> Levels:
    """Parse `aiter=off,on` as a factor and its levels."""
    factors = {}
    for item in items:
        name, equals, levels = item.partition("=")
        if not equals or len(levels.split(",")) < 2:
            raise options.unreadable(item, "--factor", "NAME=BASE,LEVEL: aiter=off,on")
        factors[name] = [level.strip() for level in levels.split(",")]
    return factors


def _split(
    frame: pd.DataFrame, arms: str, planned: Levels
) -> tuple[pd.DataFrame, pd.DataFrame, tuple[str, str]]:
    """Return the rows of two arms, base first, and the names of the arms."""
    from rocbench.judgement import compare as library

    name, equals, text = arms.partition("=")
    frame = frame.assign(**{name: _levels_of(frame, name)})
    levels = [part.strip() for part in text.split(",")] if equals else _two(frame, name, planned)
    if len(levels) != 2:
        raise options.unreadable(arms, "--arms", "NAME=BASE,LEVEL: aiter=off,on")
    base, other = library.split(frame, name, levels[0], levels[1])
    return base, other, (f"{name}={levels[0]}", f"{name}={levels[1]}")


def _levels_of(frame: pd.DataFrame, name: str) -> pd.Series[Any]:
    """Return the level of each row: from the plan's axes, else from the column of that name."""
    import pandas as pd

    from rocbench.judgement.compare import plain_value
    from rocbench.tables import runformat

    cells = zip(frame["cell_id"], frame["axes"], strict=True)
    planned = [
        runformat.json_column({"cell_id": cell, "axes": axes}, "axes").get(name) for cell, axes in cells
    ]
    measured = list(frame[name]) if name in frame.columns else [None] * len(frame)
    if all(level is None for level in planned) and name not in frame.columns:
        raise InputError(f"the cells have no arm or column {name!r}", where="--arms")
    chosen = [one if one is not None else other for one, other in zip(planned, measured, strict=True)]
    shown = [_switch(level) if isinstance(level, bool) else plain_value(level) for level in chosen]
    return pd.Series(shown, index=frame.index, dtype=object)


def _switch(level: bool) -> str:
    return "on" if level else "off"


def _sorted(levels: Mapping[str, Any]) -> list[str]:
    """Return levels in order: numbers by their size, others by their text."""
    numbers = all(isinstance(value, int | float) for value in levels.values())
    return sorted(levels, key=levels.__getitem__ if numbers else None)


def _two(frame: pd.DataFrame, name: str, planned: Levels) -> list[str]:
    """Return the two levels of an arm, base first.

    Raises:
        InputError: the rows do not have exactly two levels.
    """
    present = {str(level): level for level in frame[name]}
    known = [_switch(v) if isinstance(v, bool) else str(v) for v in planned.get(name, ())]
    levels = known if present.keys() == set(known) else _sorted(present)
    if len(levels) != 2:
        raise InputError(
            f"{name} has {len(levels)} levels here: {', '.join(levels)}",
            where="--arms",
            fix=f"choose two levels, base first: --arms {name}={','.join(levels[:2])}",
        )
    return levels

"""`bench compare`, `bench ablate`, `bench gate`: better, worse, same, or cannot tell."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from rocbench import harmless
from rocbench.errors import EnvironmentFault, Exit, InputError

if TYPE_CHECKING:
    import pandas as pd

    from rocbench.judgement.ablate import Levels
    from rocbench.judgement.compare import Settings
    from rocbench.judgement.gaterules import GateRules
    from rocbench.store.folder import RunFolder

Format = Literal["table", "csv", "json", "md"]

Metrics = Annotated[
    list[str] | None,
    typer.Option("--metric", help="A column of cells; repeatable. Default: the headline ones."),
]
MinEffect = Annotated[str, typer.Option(help="Relative change that matters: 2% or 0.02.")]
Allow = Annotated[
    list[str] | None,
    typer.Option(metavar="WHAT", help="A difference that may be, by its column: hardware; repeatable."),
]
IncludeInvalid = Annotated[bool, typer.Option("--include-invalid", help="Judge invalid rows too.")]
FormatOption = Annotated[Format, typer.Option("--format", help="table, csv, json or md.")]
Method = Annotated[
    Literal["welch", "bootstrap"], typer.Option(help="Welch on logarithms, or a bootstrap of the difference.")
]


def compare(
    a: Annotated[
        str, typer.Argument(metavar="A", help="The base: a run, a folder of runs, or a cells file.")
    ],
    b: Annotated[str | None, typer.Argument(metavar="[B]", help="What is compared with it.")] = None,
    arms: Annotated[
        str | None,
        typer.Option(metavar="NAME[=BASE,LEVEL]", help="Compare two arms of A instead: aiter=off,on."),
    ] = None,
    metric: Metrics = None,
    min_effect: MinEffect = "2%",
    method: Method = "welch",
    allow: Allow = None,
    include_invalid: IncludeInvalid = False,
    format_: FormatOption = "table",
) -> None:
    """Compare runs cell by cell, on their repeats, with Holm's correction over all verdicts."""
    from rocbench import console
    from rocbench.judgement import compare as library
    from rocbench.judgement import render

    if (b is None) == (arms is None):
        raise InputError("two sides are needed", fix="give A and B, or A and --arms NAME")
    settings = _settings(metric, min_effect, method, allow, include_invalid)
    notes: tuple[str, ...] = ()
    names = (a, b or "")
    if b is not None:
        base, other, notes = _sides(a, b)
        short = (Path(a).name, Path(b).name)
        names = short if short[0] != short[1] else names
    else:
        assert arms is not None
        base, other, names = _split(_cells(a), arms, _planned_factors(a))
    result = library.compare(base, other, settings, notes)
    match format_:
        case "csv":
            text = render.as_csv(result.table)
        case "json":
            beside: dict[str, Any] = {
                "a": names[0],
                "b": names[1],
                "simulated": bool(result.synthetic),
                "predicted": "predicted" in result.synthetic,
                "differs": result.differs,
                "only_a": result.only_a,
                "only_b": result.only_b,
                "notes": result.notes,
            }
            text = render.as_json(result.table, **beside)
        case _:
            text = render.comparison(
                result, as_markdown=format_ == "md", names=names, width=console.out().width
            )
    typer.echo(text, nl=False)
    raise typer.Exit(int(_code(result.table)))


def ablate(
    runs: Annotated[
        list[str] | None, typer.Argument(metavar="[RUN...]", help="Runs of a sweep with factors.")
    ] = None,
    factor: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=BASE,LEVEL...", help="Its levels, base first. Default: the sweep's factors."
        ),
    ] = None,
    table: Annotated[
        str | None, typer.Option(metavar="FILE", help="Judge a published table of means instead (YAML).")
    ] = None,
    metric: Metrics = None,
    min_effect: MinEffect = "2%",
    include_invalid: IncludeInvalid = False,
    format_: FormatOption = "table",
) -> None:
    """What each factor does: effect, interval and verdict, and whether variability differs."""
    from rocbench import console
    from rocbench.judgement import ablate as library
    from rocbench.judgement import render

    if bool(runs) == (table is not None):
        raise InputError("something to judge is needed", fix="give run folders, or --table FILE")
    settings = _settings(metric, min_effect, "welch", None, include_invalid)
    if table is not None:
        _published(table, settings, format_)
        return
    assert runs is not None
    frame = _cells(*runs)
    factors: Levels = _factors(factor) if factor else _planned_factors(runs[0])
    if not factors:
        raise InputError("this run has no factors", where=runs[0], fix="name them: --factor aiter=off,on")
    result = library.ablate(frame, factors, settings)
    match format_:
        case "csv":
            text = render.as_csv(result.table)
        case "json":
            text = render.as_json(
                result.table,
                factors=result.factors,
                simulated=bool(result.synthetic),
                predicted="predicted" in result.synthetic,
                notes=result.notes,
            )
        case _:
            text = render.ablation(result, as_markdown=format_ == "md", width=console.out().width)
    typer.echo(text, nl=False)
    raise typer.Exit(int(_code(result.table)))


def gate(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run folder, a run id, or latest.")],
    baseline: Annotated[
        str | None,
        typer.Option(metavar="RUN", help="A run, latest (the run before this one), or a cells file."),
    ] = None,
    rules: Annotated[
        Path | None, typer.Option(help="gate.yaml; default: 5 % on throughput and TPOT, 10 % on TTFT.")
    ] = None,
    junit: Annotated[Path | None, typer.Option(metavar="FILE", help="Write JUnit XML.")] = None,
    markdown: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a Markdown summary.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON on standard output.")] = False,
) -> None:
    """Pass, regression, or cannot tell: exit code 0, 1 or 3."""
    from rocbench.judgement import gate as library
    from rocbench.judgement import gatereport, gaterules
    from rocbench.settings import yamlfile

    wanted: GateRules = yamlfile.load(rules, gaterules.GateRules) if rules else gaterules.GateRules()
    held = _one(run)
    cells = _filled(held.cells(), run)
    against, notes = _baseline(held, baseline) if baseline is not None else (None, ())
    if baseline == "latest" and against is None:
        result = library.without_baseline(cells, wanted, "there is no earlier run of this sweep")
    else:
        result = library.gate(cells, against, wanted, notes)
    title = f"Performance gate of {held.path.name}"
    if junit is not None:
        _write(junit, gatereport.junit(result, title))
    if markdown is not None:
        _write(markdown, gatereport.gate_page(result, title))
    typer.echo(harmless.json_text(gatereport.as_dict(result)) if as_json else gatereport.text(result))
    raise typer.Exit(int(result.exit_code))


# --- what was named


def _settings(
    metric: list[str] | None,
    min_effect: str,
    method: Literal["welch", "bootstrap"],
    allow: list[str] | None,
    include_invalid: bool,
) -> Settings:
    """Flags as settings.

    Raises:
        InputError: a share or a guard cannot be read.
    """
    from rocbench.judgement.compare import DEFAULT_METRICS, GUARDS, Settings

    unknown = set(allow or ()) - set(GUARDS)
    if unknown:
        raise InputError(
            f"no such guard: {', '.join(sorted(unknown))}", where="--allow", fix=f"one of {', '.join(GUARDS)}"
        )
    return Settings(
        metrics=tuple(metric or DEFAULT_METRICS),
        min_effect=_share(min_effect),
        method=method,
        allow=frozenset(allow or ()),
        include_invalid=include_invalid,
    )


def _share(text: str) -> float:
    try:
        value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1:
        raise InputError(f"cannot read {text!r}", where="--min-effect", fix="give a share: 2% or 0.02")
    return value


def _folders(name: str) -> list[RunFolder]:
    from rocbench.commands.reporting import find

    return find([name])


def _one(name: str) -> RunFolder:
    folders = _folders(name)
    if len(folders) != 1:
        raise InputError("that is a folder of several runs", where=name, fix="name one of them")
    return folders[0]


def _cells(*names: str) -> pd.DataFrame:
    """The rows of runs, folders of runs, or cells files, together."""
    import pandas as pd

    from rocbench.store.cells import read_cells

    frames = []
    for name in names:
        if Path(name).is_file():
            frames.append(_filled(read_cells(Path(name)), name))
        else:
            frames += [_filled(folder.cells(), str(folder.path)) for folder in _folders(name)]
    return pd.concat(frames, ignore_index=True) if len(frames) > 1 else frames[0]


def _filled(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    if frame.empty:
        raise InputError("nothing was measured in this run", where=name)
    return frame


def _sides(a: str, b: str) -> tuple[pd.DataFrame, pd.DataFrame, tuple[str, ...]]:
    """The rows of both sides, and what is to be told of them; runs of one that lie in the other's folder are not pooled into it.

    Raises:
        InputError: both are the same runs.
    """
    if Path(a).is_file() or Path(b).is_file():
        return _cells(a), _cells(b), ()
    one, other = ([str(folder.path.resolve()) for folder in _folders(name)] for name in (a, b))
    only_a = [path for path in one if path not in other]
    only_b = [path for path in other if path not in one]
    if not only_a and not only_b:
        raise InputError(
            "both sides are the same run", where=b, fix="name another, or compare its arms: --arms NAME"
        )
    inner, outer = (b, a) if only_a else (a, b)
    left = (f"{inner} lies in the folder {outer}, and was left out of it",)
    return _cells(*(only_a or one)), _cells(*(only_b or other)), left if len(only_a) < len(one) else ()


def _baseline(run: RunFolder, name: str) -> tuple[pd.DataFrame | None, tuple[str, ...]]:
    """The baseline's rows, and what is to be told of them; never the run's own, which are as good as themselves.

    `latest` is the newest run of the same sweep before this one, None where there is none.

    Raises:
        InputError: the baseline is this very run.
    """
    from rocbench import ledger
    from rocbench.commands.reporting import left_out
    from rocbench.store.runs import find as find_runs

    if name == "latest":
        before = ledger.latest_before(run, find_runs(run.path.resolve().parent, left_out))
        return (before.cells() if before is not None else None), ()
    if Path(name).is_file():
        return _cells(name), ()
    there = _folders(name)
    others = [folder for folder in there if folder.path.resolve() != run.path.resolve()]
    if not others:
        raise InputError("the baseline is the run itself", where=name, fix="name an earlier run, or latest")
    left = ("the run itself lies in the baseline's folder, and was left out of it",)
    return _cells(*(str(folder.path) for folder in others)), left if len(others) < len(there) else ()


# --- arms and factors


def _planned_factors(name: str) -> Levels:
    """The factors of the sweep that a run was made by; empty where there are none."""
    if Path(name).is_file():
        return {}
    plan = _folders(name)[0].read_json("plan.json") or {}
    return dict((plan.get("sweep") or {}).get("factors") or {})


def _factors(items: list[str]) -> Levels:
    """`aiter=off,on` as a factor and its levels."""
    found = {}
    for item in items:
        name, equals, levels = item.partition("=")
        if not equals or len(levels.split(",")) < 2:
            raise InputError(
                f"cannot read {item!r}", where="--factor", fix="give NAME=BASE,LEVEL: aiter=off,on"
            )
        found[name] = [level.strip() for level in levels.split(",")]
    return found


def _split(
    frame: pd.DataFrame, arms: str, planned: Levels
) -> tuple[pd.DataFrame, pd.DataFrame, tuple[str, str]]:
    """Two arms of one run's rows, base first, and what to call them."""
    from rocbench.judgement import compare as library

    name, equals, text = arms.partition("=")
    frame = frame.assign(**{name: _levels_of(frame, name)})
    levels = [part.strip() for part in text.split(",")] if equals else _two(frame, name, planned)
    if len(levels) != 2:
        raise InputError(f"cannot read {arms!r}", where="--arms", fix="give NAME=BASE,LEVEL: aiter=off,on")
    base, other = library.split(frame, name, levels[0], levels[1])
    return base, other, (f"{name}={levels[0]}", f"{name}={levels[1]}")


def _levels_of(frame: pd.DataFrame, name: str) -> pd.Series[Any]:
    """The level of each row: as the plan set it (axes), else the column of that name."""
    import pandas as pd

    from rocbench.judgement.compare import plain_value
    from rocbench.tables import kept

    cells = zip(frame["cell_id"], frame["axes"], strict=True)
    planned = [kept.held({"cell_id": cell, "axes": axes}, "axes").get(name) for cell, axes in cells]
    there = list(frame[name]) if name in frame.columns else [None] * len(frame)
    if all(level is None for level in planned) and name not in frame.columns:
        raise InputError(f"no arm or column {name!r} in the cells", where="--arms")
    chosen = [one if one is not None else other for one, other in zip(planned, there, strict=True)]
    shown = [{True: "on", False: "off"}[v] if isinstance(v, bool) else plain_value(v) for v in chosen]
    return pd.Series(shown, index=frame.index, dtype=object)


def _two(frame: pd.DataFrame, name: str, planned: Levels) -> list[str]:
    """The two levels of an arm, base first, where they are no question."""
    there = {str(level) for level in frame[name]}
    known = [{True: "on", False: "off"}[v] if isinstance(v, bool) else str(v) for v in planned.get(name, ())]
    levels = known if there == set(known) else sorted(there)
    if len(levels) != 2:
        raise InputError(
            f"{name} has {len(levels)} levels here: {', '.join(levels)}",
            where="--arms",
            fix=f"name two, base first: --arms {name}={','.join(levels[:2])}",
        )
    return levels


def _published(name: str, settings: Settings, format_: Format) -> None:
    """What a published table of means tells, level by level."""
    from rocbench import console
    from rocbench.judgement import published, render
    from rocbench.settings import catalog, yamlfile

    table = yamlfile.load(catalog.path_of("published", name), published.PublishedTable)
    result = published.read(table, min_effect=settings.min_effect, alpha=settings.alpha)
    match format_:
        case "csv":
            text = render.as_csv(result.table)
        case "json":
            text = render.as_json(
                result.table,
                title=table.title,
                source=table.source,
                spread=result.spread,
                spread_ratio=result.spread_ratio,
                notes=result.notes,
            )
        case _:
            text = render.reading(table, result, as_markdown=format_ == "md", width=console.out().width)
    typer.echo(text, nl=False)
    raise typer.Exit(int(_code(result.table)))


# --- what comes of it


def _code(table: pd.DataFrame) -> Exit:
    """1 when something is worse, 3 when nothing could be told, else 0."""
    words = set(table["verdict"])
    if "worse" in words:
        return Exit.DONE_WITH_FAULTS
    return Exit.CANNOT_TELL if words == {"cannot tell"} else Exit.DONE


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise EnvironmentFault(f"cannot be written: {error.strerror}", where=str(path)) from None

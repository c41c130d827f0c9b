"""Command line: the list of commands. Heavy imports are inside the commands that need them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib import import_module
from types import FrameType
from typing import Annotated, Any, NoReturn

import typer

from rocbench import __version__, crash, stdio
from rocbench.commands import (
    imports,
    judging,
    knowledge,
    ledger,
    node,
    predictions,
    reporting,
    serving,
    sweeping,
)
from rocbench.conduct import interrupts
from rocbench.errors import BenchError, Exit, InputError, ReaderGone
from rocbench.variables import MORE, show_more

app = typer.Typer(
    name="bench",
    help="Find the vLLM configuration that serves a large model best on ROCm, and check every result.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

LISTED = sys.argv[1:] in (["-h"], ["--help"])
"""True if bench only prints the list of commands."""
MEASURE = "Measure"
READ = "Results"
JUDGE = "Judgement"
SERVE = "Servers"
KNOW = "Knowledge"
NODE = "This machine"


def _add(name: str, panel: str, command: Callable[..., None], settings: dict[str, Any] | None = None) -> None:
    """Add a command; without options if only the list is printed, because reading their types takes a third of the time."""

    def listed() -> None:
        pass

    listed.__doc__ = command.__doc__
    app.command(name, rich_help_panel=panel, context_settings=settings)(listed if LISTED else command)


_add("sweep", MEASURE, sweeping.sweep)
_add("plan", MEASURE, sweeping.plan)
_add("predict", MEASURE, predictions.predict)
_add("calibrate-model", MEASURE, predictions.calibrate_model)
app.add_typer(import_module("rocbench.study.commands").app, name="study", rich_help_panel=MEASURE)
_add("report", READ, reporting.report)
_add("export", READ, reporting.export)
_add("import", MEASURE, imports.import_)
_add("summary", READ, ledger.summary)
_add("history", READ, ledger.history)
_add("query", READ, ledger.query)
_add("merge", READ, ledger.merge)
_add("compare", JUDGE, judging.compare)
_add("ablate", JUDGE, judging.ablate)
_add("gate", JUDGE, judging.gate)
_add("serve", SERVE, serving.serve)
_add("simulate", SERVE, serving.simulate, serving.PASS_THROUGH)
_add("doctor", NODE, node.doctor)
_add("calibrate", NODE, node.calibrate)
_add("explain", KNOW, knowledge.explain)
_add("rules", KNOW, knowledge.rules)
app.add_typer(knowledge.profiles, name="profiles", rich_help_panel=KNOW)


def _version(requested: bool) -> None:
    if requested:
        typer.echo(f"bench {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Options before the command."""


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    """Treat every signal that ends bench as Ctrl-C: servers are then stopped."""
    raise KeyboardInterrupt


def _without_secrets(text: str) -> str:
    from rocbench.redact import redacted
    from rocbench.server.secretvalues import secret_values

    return redacted(text, secret_values(os.environ))


def main() -> None:
    """Run a command, and exit with a code of docs/exit-codes.md, always without a traceback."""
    show_more(os.environ.get(MORE, ""))
    interrupts.catch(_interrupt)
    stdio.prepare()
    sys.exit(_exit_code())


def _exit_code() -> int:
    """Run a command and return its exit code. Every error becomes one message here."""
    try:
        code = _run()
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        print("bench: interrupted", file=sys.stderr)
        return Exit.INTERRUPTED
    except Exception as error:  # noqa: BLE001 - every error is reported
        fault = error if isinstance(error, BenchError) else crash.foreseen(error)
        if fault is None:
            print(crash.message(error), file=sys.stderr)
            return Exit.CRASHED
        if not isinstance(fault, ReaderGone):
            text = "\n  ".join([fault.text(), *getattr(error, "__notes__", ())])
            print(f"bench: {_without_secrets(text)}", file=sys.stderr)
        return fault.exit_code


def _run() -> int:
    """Run a command.

    Raises:
        InputError: an argument is not text.
        Exception: any error of the command, also those that typer turns into exit code 1 (broken pipe, end of input).
    """
    for word in sys.argv[1:]:
        try:
            word.encode()
        except UnicodeEncodeError:
            raise InputError(f"{os.fsencode(word)!r} is not UTF-8", where="command line") from None
    try:
        app()
    except SystemExit as exit_:
        context = exit_.__context__
        cause = context.__cause__ if isinstance(context, typer.Abort) else context
        if isinstance(cause, OSError | EOFError):
            raise cause from None
        return exit_.code if isinstance(exit_.code, int) else Exit.DONE
    return Exit.DONE

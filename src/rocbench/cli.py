"""The command line: a table of contents. Heavy imports stay inside the commands that need them."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Annotated, Any, NoReturn

import typer

from rocbench import __version__
from rocbench.commands import (
    imports,
    judging,
    knowledge,
    ledger,
    node,
    predictions,
    reporting,
    serving,
    studying,
    sweeping,
)
from rocbench.errors import BenchError, Exit

app = typer.Typer(
    name="bench",
    help="Find out which vLLM configuration serves a large model best on ROCm, and believe the answer.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

LISTED = sys.argv[1:] in (["-h"], ["--help"])
"""Only the list of commands is wanted."""
MEASURE = "Measure"
READ = "Results"
JUDGE = "Judgement"
SERVE = "Servers"
KNOW = "Knowledge"
NODE = "This machine"


def _add(name: str, panel: str, command: Callable[..., None], settings: dict[str, Any] | None = None) -> None:
    """Add a command; for their list without its options, whose types take a third of the time to read."""

    def listed() -> None:
        pass

    listed.__doc__ = command.__doc__
    app.command(name, rich_help_panel=panel, context_settings=settings)(listed if LISTED else command)


_add("sweep", MEASURE, sweeping.sweep)
_add("plan", MEASURE, sweeping.plan)
_add("predict", MEASURE, predictions.predict)
_add("calibrate-model", MEASURE, predictions.calibrate_model)
app.add_typer(studying.app, name="study", rich_help_panel=MEASURE)
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


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"bench {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Options that stand before the command."""


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    """SIGTERM and a closed terminal end like Ctrl-C, so that no server is left behind."""
    raise KeyboardInterrupt


def _without_secrets(text: str) -> str:
    import os

    from rocbench.redact import redacted
    from rocbench.server.secretvalues import secret_values

    return redacted(text, secret_values(os.environ))


def main() -> None:
    """Run a command; every error a user can act on ends here, with its exit code and no traceback."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    try:
        app()
    except BenchError as error:
        print(f"bench: {_without_secrets(error.text())}", file=sys.stderr)
        sys.exit(int(error.exit_code))
    except KeyboardInterrupt:
        print("bench: interrupted", file=sys.stderr)
        sys.exit(int(Exit.INTERRUPTED))
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(int(Exit.DONE))

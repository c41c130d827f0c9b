"""The command line: a table of contents. Heavy imports stay inside the commands that need them."""

from __future__ import annotations

import signal
import sys
from types import FrameType
from typing import Annotated, NoReturn

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

MEASURE = "Measure"
READ = "Results"
JUDGE = "Judgement"
SERVE = "Servers"
KNOW = "Knowledge"
NODE = "This machine"

app.command("sweep", rich_help_panel=MEASURE)(sweeping.sweep)
app.command("plan", rich_help_panel=MEASURE)(sweeping.plan)
app.command("predict", rich_help_panel=MEASURE)(predictions.predict)
app.command("calibrate-model", rich_help_panel=MEASURE)(predictions.calibrate_model)
app.add_typer(studying.app, name="study", rich_help_panel=MEASURE)
app.command("report", rich_help_panel=READ)(reporting.report)
app.command("export", rich_help_panel=READ)(reporting.export)
app.command("import", rich_help_panel=MEASURE)(imports.import_)
app.command("summary", rich_help_panel=READ)(ledger.summary)
app.command("history", rich_help_panel=READ)(ledger.history)
app.command("query", rich_help_panel=READ)(ledger.query)
app.command("merge", rich_help_panel=READ)(ledger.merge)
app.command("compare", rich_help_panel=JUDGE)(judging.compare)
app.command("ablate", rich_help_panel=JUDGE)(judging.ablate)
app.command("gate", rich_help_panel=JUDGE)(judging.gate)
app.command("serve", rich_help_panel=SERVE)(serving.serve)
app.command("simulate", rich_help_panel=SERVE, context_settings=serving.PASS_THROUGH)(serving.simulate)
app.command("doctor", rich_help_panel=NODE)(node.doctor)
app.command("calibrate", rich_help_panel=NODE)(node.calibrate)
app.command("explain", rich_help_panel=KNOW)(knowledge.explain)
app.command("rules", rich_help_panel=KNOW)(knowledge.rules)
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


def main() -> None:
    """Run a command; every error a user can act on ends here, with its exit code and no traceback."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    try:
        app()
    except BenchError as error:
        print(f"bench: {error.text()}", file=sys.stderr)
        sys.exit(int(error.exit_code))
    except KeyboardInterrupt:
        print("bench: interrupted", file=sys.stderr)
        sys.exit(int(Exit.INTERRUPTED))
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(int(Exit.DONE))

"""The ``alrsim`` command: its verbs, and what becomes of every error."""

import os
import sys
import threading
import traceback
from collections.abc import Sequence
from typing import Annotated

import typer

from alrsim import __version__
from alrsim.cli.calibrate import run as calibrate
from alrsim.cli.compare import run as compare
from alrsim.cli.demo import run as demo
from alrsim.cli.execute import run as execute
from alrsim.cli.explain import run as explain
from alrsim.cli.export import run as export
from alrsim.cli.figure2 import run as figure2
from alrsim.cli.gradcheck import run as gradcheck
from alrsim.cli.graph import run as graph
from alrsim.cli.hardware import app as hardware
from alrsim.cli.plan import run as plan
from alrsim.cli.ranks import broken, may_complain
from alrsim.cli.replay import run as replay
from alrsim.cli.reproduce import run as reproduce
from alrsim.cli.schedule import run as schedule
from alrsim.cli.simulate import run as simulate
from alrsim.cli.stages import run as stages
from alrsim.cli.sweep import run as sweep
from alrsim.cli.train import run as train
from alrsim.cli.train_help import GroupedCommand
from alrsim.cli.trajectory import run as trajectory
from alrsim.cli.validate import run as validate
from alrsim.errors import AlrsimError, spell

OK, USER_ERROR, BUG, INTERRUPTED = 0, 1, 2, 130
_WORKER = "alrsim-"
"""How the names of worker threads begin."""

_INTERRUPTED_MESSAGE = "interrupted; no file was left half-written"

_CLICK_ERROR: type[Exception] = typer.BadParameter.__mro__[2]  # ClickException; typer carries its own copy of click

app = typer.Typer(
    name="alrsim",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("calibrate")(calibrate)
app.command("compare")(compare)
app.command("demo")(demo)
app.command("figure2")(figure2)
app.command("export")(export)
app.command("graph")(graph)
app.command("stages")(stages)
app.command("schedule")(schedule)
app.command("simulate")(simulate)
app.command("plan")(plan)
app.command("execute")(execute)
app.command("explain")(explain)
app.command("gradcheck")(gradcheck)
app.command("trajectory")(trajectory)
app.command("reproduce")(reproduce)
app.command("sweep")(sweep)
app.command("validate")(validate)
app.command("replay")(replay)
app.command("train", cls=GroupedCommand)(train)
app.add_typer(hardware, name="hardware")


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an internal error.")] = False,
) -> None:
    """Compare backpropagation and likelihood-ratio pipeline schedules of a model: predicted, and measured.

    model -> graph -> stages -> tasks -> schedule -> timeline -> report: one verb for each arrow.
    """
    if version:
        typer.echo(f"alrsim {__version__}")
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line and leave the process: 0 done, 1 user error, 2 bug, 130 interrupted."""
    status = run(sys.argv[1:] if argv is None else argv)
    if broken() or any(thread.daemon and thread.name.startswith(_WORKER) for thread in threading.enumerate()):
        # A worker thread hangs in a task. Python would shut down around it, which can crash: leave at once.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    raise SystemExit(status)


def run(argv: Sequence[str]) -> int:
    """The exit status of one command line; every error has become one message on stderr."""
    debug = "--debug" in argv
    arguments = [argument for argument in argv if argument != "--debug"]
    try:
        status = app(args=arguments, prog_name="alrsim", standalone_mode=False)
        sys.stdout.flush()
    except AlrsimError as error:
        return _fail(spell(error, _as_typed))
    except (typer.Abort, KeyboardInterrupt):
        return _fail(_INTERRUPTED_MESSAGE, INTERRUPTED, prefix="")
    except BrokenPipeError:
        return _forget_stdout()
    except _CLICK_ERROR as error:
        return _fail(_usage_message(error))
    except MemoryError:
        return _fail("this host has not enough memory for that; try fewer micro-batches, copies or stages")
    except Exception as error:  # the last line of defence: a bug must say that it is one
        if debug:
            traceback.print_exc(limit=-6)
        hint = "" if debug else "; add --debug for the place"
        return _fail(f"this is a bug in alrsim, please report it: {type(error).__name__}: {error}{hint}", BUG)
    if status == INTERRUPTED:  # Typer turns an interrupt inside a verb into this status, without a word
        return _fail(_INTERRUPTED_MESSAGE, INTERRUPTED, prefix="")
    return status if isinstance(status, int) else OK


def _fail(message: str, status: int = USER_ERROR, *, prefix: str = "error: ") -> int:
    if may_complain():
        print(f"{prefix}{message}", file=sys.stderr)
    return status


def _as_typed(field: str, value: object) -> str:
    """A keyword of the library as an option."""
    option = "--" + field.replace("_", "-")
    return option if value is None else f"{option} {value}"


def _usage_message(error: BaseException) -> str:
    """Click's own message with the verb whose help explains the option."""
    message = error.format_message() if hasattr(error, "format_message") else str(error)
    context = getattr(error, "ctx", None)
    command = getattr(context, "command_path", "") or "alrsim"
    return f"{message}\n  try: {command} --help"


def _forget_stdout() -> int:
    """The reader of our output went away (``| head``): be quiet, also when Python flushes at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return OK

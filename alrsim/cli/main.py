"""The ``alrsim`` command: what becomes of its words, and of every error."""

import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import FrameType
from typing import Any

import click

from alrsim.cli.commands import Verbs
from alrsim.cli.parameters import NO_CODE, no_code_option, plugin_option
from alrsim.cli.ranks import broken, may_complain
from alrsim.cli.running import UserError, load_plugins
from alrsim.cli.table import VERBS
from alrsim.errors import AlrsimError, printable
from alrsim.version import __version__

OK, USER_ERROR, BUG, INTERRUPTED, TERMINATED = 0, 1, 2, 130, 143
_NAME, _COMPLETE = "alrsim", "_ALRSIM_COMPLETE"
_WORKER = "alrsim-"
"""How the names of worker threads begin."""

_UNHARMED = "no file was left half-written"

_HELP = """Compare backpropagation and likelihood-ratio pipeline schedules of a model: predicted, and measured.

model -> graph -> stages -> tasks -> schedule -> timeline -> report: one verb for each arrow.
"""


def application() -> Verbs:
    """The command with all its verbs."""

    def root(version: bool, debug: bool, completion: str | None, plugin: Sequence[Any], no_code: bool) -> None:
        context = click.get_current_context()
        load_plugins(plugin)
        if version:
            print(f"{_NAME} {__version__}")
        elif completion is not None:
            print(completion_script(completion))
        elif context.invoked_subcommand is None:
            print(context.get_help())

    options: list[click.Parameter] = [
        click.Option(["--version"], is_flag=True, help="Print the version and stop."),
        click.Option(["--debug"], is_flag=True, help="Show the traceback of an internal error."),
        click.Option(
            ["--completion"],
            metavar="SHELL",
            type=click.Choice(["bash", "zsh", "fish"]),
            help="Print what makes a shell complete verbs, options and values: "
            '`eval "$(alrsim --completion bash)"` in its start file.',
        ),
        plugin_option(),
        no_code_option(),
    ]
    return Verbs(_NAME, _HELP, VERBS, params=options, callback=root, invoke_without_command=True)


def completion_script(shell: str) -> str:
    """What a shell reads to complete the words of the command."""
    from click.shell_completion import get_completion_class

    found = get_completion_class(shell)
    assert found is not None
    return found(application(), {}, _NAME, _COMPLETE).source()


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line and leave the process: 0 done, 1 user error, 2 bug, 130 interrupted, 143 terminated."""
    if _COMPLETE in os.environ:
        application().main(prog_name=_NAME, complete_var=_COMPLETE)
    status = run(sys.argv[1:] if argv is None else argv)
    if broken() or any(thread.daemon and thread.name.startswith(_WORKER) for thread in threading.enumerate()):
        # A worker thread hangs in a task. Python would shut down around it, which can crash: leave at once.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    raise SystemExit(status)


def run(argv: Sequence[str]) -> int:
    """The exit status of one command line; every error has become one message on stderr."""
    with _heeding_terminations() as terminated:
        return _run(argv, terminated)


def _run(argv: Sequence[str], terminated: Callable[[], bool]) -> int:
    debug = "--debug" in argv
    try:
        dispatch([argument for argument in argv if argument != "--debug"])
        sys.stdout.flush()
    except click.exceptions.Exit as done:
        return done.exit_code
    except (UserError, AlrsimError) as error:
        return _fail(str(error))
    except (click.Abort, KeyboardInterrupt):
        if terminated():
            return _fail(f"terminated; {_UNHARMED}", TERMINATED, prefix="")
        return _fail(f"interrupted; {_UNHARMED}", INTERRUPTED, prefix="")
    except BrokenPipeError:
        return _forget_stdout()
    except click.ClickException as error:
        return _fail(_usage_message(error))
    except MemoryError:
        return _fail("this host has not enough memory for that; try fewer micro-batches, copies or stages")
    except OSError as error:
        if debug:
            traceback.print_exc(limit=-6)
        return _fail(_host_message(error))
    except Exception as error:  # the last line of defence: a bug must say that it is one
        if debug:
            traceback.print_exc(limit=-6)
        hint = "" if debug else "; add --debug for the place"
        return _fail(f"this is a bug in alrsim, please report it: {type(error).__name__}: {error}{hint}", BUG)
    return OK


@contextmanager
def _heeding_terminations() -> Iterator[Callable[[], bool]]:
    """SIGTERM does what Ctrl-C does by then, also where a shell made this program deaf to Ctrl-C.

    Yields:
        Whether one came.
    """
    came = False

    def heed(_signal: int, frame: FrameType | None) -> None:
        nonlocal came
        came = True
        interrupt = signal.getsignal(signal.SIGINT)
        if callable(interrupt):
            interrupt(signal.SIGINT, frame)
        else:
            raise KeyboardInterrupt

    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:  # somebody else's affair, or ignored
        yield lambda: came
        return
    signal.signal(signal.SIGTERM, heed)
    try:
        yield lambda: came
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def dispatch(arguments: list[str]) -> None:
    """Call the verb that the words name."""
    command = application()
    with _barring(arguments), command.make_context(_NAME, arguments) as context:
        command.invoke(context)


def _barring(arguments: Sequence[str]) -> AbstractContextManager[None]:
    """Code is barred wherever the word stands, also from plug-ins that the command reads before the verb is known."""
    if NO_CODE not in arguments:
        return nullcontext()
    from alrsim.registry import barring_code

    return barring_code()


def _fail(message: str, status: int = USER_ERROR, *, prefix: str = "error: ") -> int:
    if may_complain():
        print(printable(f"{prefix}{message}"), file=sys.stderr)
    return status


def _host_message(error: OSError) -> str:
    """What the host refused, which is no bug: a full disk, a name that is too long, no more descriptors."""
    from alrsim.writing import reason

    return f"{error.filename}: {reason(error)}" if error.filename else f"this host refused: {reason(error)}"


def _usage_message(error: click.ClickException) -> str:
    """Click's own message with the verb whose help explains the option."""
    context = getattr(error, "ctx", None)
    command = getattr(context, "command_path", "") or _NAME
    return f"{error.format_message()}\n  try: {command} --help"


def _forget_stdout() -> int:
    """The reader of our output went away (``| head``): be quiet, also when Python flushes at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return OK

"""What the command line says of a verb, as data: its words and where the function is. The rest is the verb's own."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Given:
    """A parameter of a verb that is no option of its class: a model, a machine, a file.

    Attributes:
        name: Of the parameter.
        metavar: What stands for it in help: ``MODEL``, or ``[SCHEDULE] [MODEL]`` of a parameter that takes several.
        typed: How it is typed: ``("--hardware",)``; empty: it is an argument.
        known: Import path of the values that exist, for the shell's completion.
        target: It is a file that the verb writes, so that it is checked before anything is computed.
    """

    name: str
    metavar: str
    help: str
    typed: tuple[str, ...] = ()
    known: str = ""
    target: bool = False


@dataclass(frozen=True)
class Saving:
    """What ``-o FILE`` writes, by ``result.write(FILE)``.

    Attributes:
        help: One sentence.
        endings: Of the names that it takes; empty: any.
        required: It must be given.
        needs: Keyword without which there is nothing to write.
    """

    help: str
    endings: tuple[str, ...] = ()
    required: bool = False
    needs: str = ""


@dataclass(frozen=True)
class Entry:
    """A verb of the command line.

    Attributes:
        line: What it does, in one line; its own help is the verb's docstring.
        verb: Import path of an :class:`alrsim.verbs.Verb`: ``alrsim.study.comparison:compare``.
        given: Its parameters that are no options, in the order in which they are typed.
        out: Whether there is ``--out DIR``; a text: its default.
        saving: What ``-o FILE`` writes; ``None``: there is no such option.
        files: Options that name files which the verb itself writes.
        without: Options that make sense in Python only.
    """

    name: str
    line: str
    verb: str
    given: tuple[Given, ...] = ()
    out: bool | str = False
    saving: Saving | None = None
    files: tuple[str, ...] = ()
    without: tuple[str, ...] = ()


@dataclass(frozen=True)
class Section:
    """Verbs behind one word: ``alrsim hardware list``."""

    name: str
    line: str
    entries: tuple[Entry, ...]

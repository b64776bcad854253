"""Every error that a user can cause: what is wrong, where, and what to do about it."""


class AlrsimError(Exception):
    """A user error. The command line prints it and exits 1, without a traceback.

    Args:
        what: What is wrong, in one sentence.
        where: The file, key path, token, unit or option that is to blame.
        fix: What the user can do.
    """

    def __init__(self, what: str, *, where: str = "", fix: str = "") -> None:
        self.what, self.where, self.fix = what, where, fix
        super().__init__(what)

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        return f"{text}\n  try: {self.fix}" if self.fix else text


class OptionError(AlrsimError):
    """An option, or a combination of options, that makes no sense."""


class FileError(AlrsimError):
    """A file that cannot be read, is cut off, or does not hold what it should."""


class ModelError(AlrsimError):
    """A model that cannot be loaded, exported, priced or cut."""


class ProfileError(AlrsimError):
    """A hardware profile that is wrong: unknown key, missing unit, negative number."""


class ScheduleError(AlrsimError):
    """A schedule that does not fit its problem."""


class DeadlockError(ScheduleError):
    """A schedule whose lanes wait for each other; the message names the cycle and prints the lanes."""


class ExecutionError(AlrsimError):
    """A measured run that could not be carried out; names the token."""

"""Being written."""


def run() -> None:
    """x."""

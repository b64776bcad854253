"""Names that the shell completes; each is looked up when the shell asks."""


def models() -> tuple[str, ...]:
    """The zoo."""
    from alrsim.models import ZOO

    return tuple(ZOO)


def machines() -> tuple[str, ...]:
    """The shipped hardware profiles."""
    from alrsim.hardware.profile import shipped_names

    return shipped_names()

"""How each claim is measured: functions ``(Context, **arguments) -> Measured``, one file per kind of quantity."""

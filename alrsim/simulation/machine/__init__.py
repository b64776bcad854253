"""The fast engine's loops in machine code. They are compiled, hence imported only when the engine runs."""

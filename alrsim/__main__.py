"""``python -m alrsim`` is the ``alrsim`` command."""

from alrsim.cli.main import main

if __name__ == "__main__":
    main()

"""``python -m batchrunner`` and the ``batchrunner`` script."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line and exit with its code."""
    from batchrunner.cli import main as cli_main  # noqa: PLC0415 (keeps `python -m` lazy)

    sys.exit(cli_main())


if __name__ == "__main__":
    main()

"""Where `vramble` and `python -m tui` begin; imports nothing before it has to."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command line.

    Returns:
        The exit code: 0 good, 1 it failed, 2 wrong usage.
    """
    from tui import cli

    return cli.run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())

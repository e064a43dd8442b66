"""`python -m tests.chaos --kills N`: the chaos suite at any size. Ends with a line of JSON, exit code 1 on any loss."""

import argparse
import sys
from pathlib import Path

from tests.chaos.disasters import ALONE, SHARED
from tests.chaos.suite import run


def main() -> int:
    """Play, and print the figures."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--kills", type=int, default=6, help="how often a bot is killed; other disasters come between")
    parser.add_argument("--seed", type=int, default=1, help="the same number makes the same choices")
    parser.add_argument("--server", action="store_true", help="have every other run rotate the Server's certificate")
    parser.add_argument(
        "--only",
        default="",
        choices=sorted({d.__name__ for d in (*ALONE, *SHARED)}),
        metavar="DISASTER",
        help="have this one strike in each of so many runs: %(choices)s",
    )
    parser.add_argument("--logs", type=Path, help="keep the bots' logs in this folder after a loss")
    options = parser.parse_args()
    if options.logs:
        options.logs.mkdir(parents=True, exist_ok=True)
    figures = run(options.kills, seed=options.seed, folder=options.logs, server=options.server, only=options.only)
    for loss in figures.losses:
        sys.stderr.write(f"LOST: {loss}\n")
    sys.stdout.write(figures.line() + "\n")
    return 1 if figures.losses else 0


if __name__ == "__main__":
    sys.exit(main())

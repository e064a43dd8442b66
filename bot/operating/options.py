"""Options that several commands of the terminal have."""

from pathlib import Path

import click

CONFIG = Path("octocert.toml")

configured = click.option(
    "--config",
    type=click.Path(path_type=Path),
    default=CONFIG,
    show_default=True,
    metavar="FILE",
    help="The configuration; octocert.example.toml explains every setting.",
)
"""Gives a command the path of the bot's configuration as `config`."""

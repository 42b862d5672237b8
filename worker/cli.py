"""The command ``connectbot``."""

from __future__ import annotations

import sys

import click

from connectbot.errors import ConnectBotError
from worker.commands import chaos, check, dead, java, stack, stats


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="connectbot-worker")
def connectbot() -> None:
    """The background worker of ConnectBot."""


connectbot.add_command(stack.demo)
connectbot.add_command(stack.up)
connectbot.add_command(chaos.chaos)
connectbot.add_command(java.java)
connectbot.add_command(check.check)
connectbot.add_command(stats.stats)
connectbot.add_command(dead.dead)


def main() -> None:
    """Run the command; an error is one sentence."""
    try:
        connectbot()
    except ConnectBotError as error:
        click.echo(f"connectbot: {error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()

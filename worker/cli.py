"""The command ``connectbot``."""

from __future__ import annotations

import os

import click

from worker.commands import bench, chaos, check, completion, dead, events, java, menus, stack, stats, temp
from worker.commands.common import SEEN_BY_ALL, Commands

_EPILOG = """\b
Exit status
  0    all is well, it is done
  1    it is not: standard error says why in one sentence, and what to do
  2    the command was given wrongly
  130  Ctrl-C came before everything was done

Settings are read from the environment, or from the file .env in the current directory or above it."""


@click.group(cls=Commands, epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="connectbot-worker", prog_name="connectbot")
@click.option(
    "--redis-url",
    envvar="REDIS_URL",
    show_envvar=True,
    help=f"Redis of the installation; {SEEN_BY_ALL}, one in the variable cannot.",
)
@click.option(
    "--namespace", envvar="CONNECTBOT_NAMESPACE", show_envvar=True, help="First part of its keys and channels."
)
@click.option("--java-service-url", envvar="JAVA_SERVICE_URL", show_envvar=True, help="Address of the Java service.")
def connectbot(redis_url: str | None, namespace: str | None, java_service_url: str | None) -> None:
    """The background worker of ConnectBot."""
    given = {"REDIS_URL": redis_url, "CONNECTBOT_NAMESPACE": namespace, "JAVA_SERVICE_URL": java_service_url}
    # From there every setting is read, by the processes that a command starts, too.
    os.environ.update({variable: value for variable, value in given.items() if value})


connectbot.add_command(stack.demo)
connectbot.add_command(stack.up)
connectbot.add_command(check.check)
connectbot.add_command(stats.stats)
connectbot.add_command(events.events)
connectbot.add_command(menus.menus)
connectbot.add_command(temp.temp)
connectbot.add_command(dead.dead)
connectbot.add_command(java.java)
connectbot.add_command(chaos.chaos)
connectbot.add_command(bench.bench)
connectbot.add_command(completion.completion)


def main() -> None:
    """Run the command; an error is one sentence."""
    connectbot(prog_name="connectbot")


if __name__ == "__main__":
    main()

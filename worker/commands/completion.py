"""``connectbot completion``: what a shell needs to complete our commands."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

NAME = "connectbot"
SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the script by which a shell completes commands and options.

    \b
    bash: eval "$(connectbot completion bash)" in ~/.bashrc
    zsh:  eval "$(connectbot completion zsh)" in ~/.zshrc, after compinit
    fish: connectbot completion fish > ~/.config/fish/completions/connectbot.fish
    """
    kind = get_completion_class(shell)
    assert kind is not None, "click knows the shells of SHELLS"  # noqa: S101
    command = ctx.parent.command if ctx.parent else ctx.command
    click.echo(kind(command, {}, NAME, f"_{NAME.upper()}_COMPLETE").source())

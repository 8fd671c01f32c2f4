"""`p2pml completion`: what a shell needs to complete commands, options and files."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from .main import COMPLETE
from .options import examples


@click.command(
    epilog=examples(
        'eval "$(p2pml completion bash)"   # in ~/.bashrc',
        'eval "$(p2pml completion zsh)"    # in ~/.zshrc',
        "p2pml completion fish > ~/.config/fish/completions/p2pml.fish",
    )
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print what makes SHELL complete commands and options."""
    shape = get_completion_class(shell)
    assert shape is not None, "click knows all three"
    click.echo(shape(ctx.find_root().command, {}, "p2pml", COMPLETE).source())

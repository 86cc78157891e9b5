"""``smp completion``: prints the script that completes ``smp`` in a shell."""

from __future__ import annotations

import click

from session_manager_plugin.cli.click_options import Choice, command
from session_manager_plugin.cli.environment import Environment

_EXAMPLES = """
smp completion fish | source                 (in ~/.config/fish/config.fish)
eval "$(smp completion bash)"                (in ~/.bashrc)
eval "$(smp completion zsh)"                 (in ~/.zshrc)
"""


@command("completion", examples=_EXAMPLES)
@click.argument("shell", type=Choice("bash", "zsh", "fish"))
def completion(environment: Environment, *, shell: str) -> int:
    """Print the script that completes smp in a shell.

    With it the Tab key completes commands, options, their values and names of files. Where smp was installed with a
    prefix that the shell searches, as packages of a distribution are, this is not needed: the scripts are under
    share/ there.
    """
    from session_manager_plugin.cli.completion import SCRIPTS

    environment.write(SCRIPTS[shell])
    return 0

"""Completion in bash, zsh and fish: the shell scripts, and the suggestions that they request from ``smp`` at each Tab.

click determines the suggestions. The scripts are our own: those of click lose a value after ``--option=`` in all three
shells, and commas in descriptions in fish.

A script runs ``smp`` with ``_SMP_COMPLETE`` set to the shell's name. The arguments are the words typed up to the
cursor, the last of which is to be completed; for bash they are one argument, the line up to the cursor. ``smp`` prints
one line for each suggestion: ``plain``, TAB, the word, TAB, its description; ``part`` instead of ``plain`` for a word
that is continued without a blank. If the shell should suggest file names, the line is ``file`` or ``dir``, TAB, and the
part of the word before the name (``--log-file=``). Such a line may follow words: then both are suggested.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from click.shell_completion import ShellComplete, split_arg_string

from session_manager_plugin.cli.environment import Environment
from session_manager_plugin.cli.help_page import first_sentence

if TYPE_CHECKING:
    from click import Command
    from click.shell_completion import CompletionItem

_PROGRAM = "smp"
_MEANING_LIMIT = 72
"""Characters of a description, which is shown on one line with the suggestion."""

# ``=`` breaks words in bash (COMP_WORDBREAKS): only the part after it is replaced. So the line is passed as typed, and
# not split into bash's words. Bash completes file names itself only where there is no other suggestion. Beside others
# they are listed and quoted here, with the blank or slash behind them, since a part of a word is followed by neither.
_BASH = r"""# bash completion of smp: eval "$(smp completion bash)"

_smp() {
    local type word meaning name files=
    local typed=${COMP_LINE:0:COMP_POINT}
    COMPREPLY=()
    while IFS=$'\t' read -r type word meaning; do
        case $type in
            plain) COMPREPLY+=("${word#--*=}") ;;
            part) COMPREPLY+=("$word"); compopt -o nospace 2>/dev/null ;;
            dir) compopt -o dirnames 2>/dev/null ;;
            file) files=yes; compopt -o default 2>/dev/null ;;
        esac
    done < <(_SMP_COMPLETE=bash "${1/#\~/$HOME}" "$typed" 2>/dev/null)
    if [[ $files && ${#COMPREPLY[@]} -gt 0 ]]; then
        while IFS= read -r name; do
            if [[ -d $name ]]; then word=/; else word=' '; fi
            printf -v name %q "$name"
            COMPREPLY+=("$name$word")
        done < <(compgen -f -- "$2")
    fi
}

# bash 3 and some of 4 know no nosort.
complete -o nosort -F _smp smp 2>/dev/null || complete -o default -F _smp smp
"""

_ZSH = r"""#compdef smp
# zsh completion of smp: eval "$(smp completion zsh)", or this file as _smp in a directory of $fpath

_smp() {
    local line type word meaning ret=1
    local -a plain part
    for line in "${(@f)$(_SMP_COMPLETE=zsh ${~words[1]} "${(@Q)words[2,CURRENT-1]}" "${(Q)PREFIX}" 2>/dev/null)}"; do
        IFS=$'\t' read -r type word meaning <<<"$line"
        case $type in
            plain) plain+=("${word//:/\\:}${meaning:+:$meaning}") ;;
            part) part+=("${word//:/\\:}${meaning:+:$meaning}") ;;
            dir) [[ -n $word ]] && compset -P '*='; _files -/ && ret=0 ;;
            file) [[ -n $word ]] && compset -P '*='; _files && ret=0 ;;
        esac
    done
    (( $#plain )) && _describe -V smp plain && ret=0
    (( $#part )) && _describe -V target part -S '' && ret=0
    return ret
}

if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    _smp "$@"
else
    (( $+functions[compdef] )) || { autoload -Uz compinit && compinit }
    compdef _smp smp
fi
"""

_FISH = r"""# fish completion of smp: smp completion fish | source

function __smp_complete
    set -l words (commandline --current-process --tokenize --cut-at-cursor)
    set -l typed (commandline --current-token --cut-at-cursor)
    for line in (_SMP_COMPLETE=fish smp $words[2..-1] "$typed" 2>/dev/null)
        set -l parts (string split --max 2 \t -- $line)
        switch $parts[1]
            case plain part  # a word that ends with a colon is followed by no blank
                printf '%s\t%s\n' $parts[2] "$parts[3]"
            case dir
                printf '%s\n' "$parts[2]"(__fish_complete_directories (string replace -- "$parts[2]" "" "$typed"))
            case file
                printf '%s\n' "$parts[2]"(__fish_complete_path (string replace -- "$parts[2]" "" "$typed"))
        end
    end
end

complete --command smp --no-files --keep-order --arguments "(__smp_complete)"
"""

SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}
"""The scripts by the name of the shell."""


class _Answer(ShellComplete):
    """Computes suggestions; ``words`` are the arguments of the program."""

    name = _PROGRAM
    source_template = ""

    def __init__(self, cli: Command, words: Sequence[str], environment: Environment) -> None:
        super().__init__(cli, {"obj": environment}, _PROGRAM, "")
        self._words = list(words) or [""]
        name, separator, _ = self._words[-1].partition("=")
        self._lead = name + separator if separator and name.startswith("--") else ""

    def get_completion_args(self) -> tuple[list[str], str]:
        return self._words[:-1], self._words[-1]

    def format_completion(self, item: CompletionItem[str]) -> str:
        if item.type not in ("plain", "part"):
            return f"{item.type}\t{self._lead}"
        return f"{item.type}\t{self._lead}{item.value}\t{_meaning(item.help or '')}"


def answer(cli: Command, shell: str, arguments: Sequence[str], environment: Environment) -> str:
    """Return the suggestions for the script of ``shell``, called with ``arguments``. Each line ends with a newline."""
    words = list(arguments)
    if shell == "bash":
        line = "".join(arguments)
        words = split_arg_string(line)[1:] + [""] * line.endswith((" ", "\t"))
    text = _Answer(cli, words, environment).complete()
    return f"{text}\n" if text else ""


def _meaning(text: str) -> str:
    """Return the first sentence of an option's help, on one line."""
    first = first_sentence(text)
    return first if len(first) <= _MEANING_LIMIT else f"{first[: _MEANING_LIMIT - 3].rstrip()}..."

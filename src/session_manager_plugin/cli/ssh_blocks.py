"""Blocks of ``ssh_config`` for targets. Pure: text in, text out.

The names of targets are tags, which other people may set. They are used only in ``Host`` lines, reduced to letters,
digits, hyphens and underscores. The command that a shell runs for ssh (``ProxyCommand``) contains only ids and values
given by the user.
"""

from __future__ import annotations

import json
import re
import shlex
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from session_manager_plugin.errors import UsageError

_HEADING = "# Written by smp ssh-config --write, which adds blocks and replaces those of the same targets.\n"
_MARK = "# smp "
"""The beginning of a block's first line. A JSON object with ``id`` and ``origin`` follows."""
_ID = re.compile(r"m?i-[0-9a-f]{8,17}")
_PLAIN = re.compile(r"\w(?:[\w-]*\w)?", re.ASCII)
_PLAIN_WITH_DOTS = re.compile(r"\w(?:[\w.-]*\w)?", re.ASCII)
_ODD = re.compile(r"\W+", re.ASCII)
_USER = re.compile(r"""[^\s"'#$%\\-][^\s"'#$%\\]*""")
_NOT_IN_PATHS = re.compile(r'[\x00-\x1f\x7f"$\\]')
"""``ssh_config`` of OpenSSH before 8.7 cannot quote these."""


@dataclass(frozen=True)
class Host:
    """A target: its id and its name, which may be empty."""

    id: str
    name: str = ""
    is_named: bool = False
    """Whether the name was given by the user, so that it may have dots."""


@dataclass(frozen=True)
class Login:
    """The login of ssh."""

    user: str = ""
    """Empty for ssh's default."""
    push_key: str | None = None
    """The value of ``--push-key``: the file of a public key, empty for new keys, None for no key."""
    identity_file: Callable[[str], str] = lambda _id: ""
    """Returns the private key's file for a target's id, as ``path_word`` does; used with ``push_key`` only."""


@dataclass(frozen=True)
class Block:
    """One block, with the id of its target and what ``origin_of`` returns for the account that it was written from."""

    id: str
    origin: str
    text: str
    """All lines. The first one contains the other two fields."""

    @property
    def hosts(self) -> list[str]:
        """The target's names in ssh."""
        return next((line.split()[1:] for line in self.text.splitlines() if line.startswith("Host ")), [])


def make_blocks(
    hosts: Sequence[Host],
    command: Sequence[str],
    options: Sequence[str],
    login: Login,
    *,
    account: str = "",
    taken: Collection[str] = (),
) -> list[Block]:
    """Return a block for each of ``hosts``. ``command`` runs smp; ``options`` are those of AWS; ``account`` is the
    number of the account if no option selects it.

    A name that several targets have, or that is in ``taken``, is written as NAME.ID. Raises ``UsageError`` for what
    ``ssh_config`` cannot hold.
    """
    if login.user and _USER.fullmatch(login.user) is None:
        raise UsageError(f"{login.user!r} cannot be the name of a user in ssh_config")
    origin = origin_of(options, account)
    names = {host.id: _plain_name(host) for host in hosts}
    counts = Counter(names.values())
    blocks = []
    for host in hosts:
        name = names[host.id]
        if counts[name] > 1 or name in taken:
            name = f"{name}.{host.id}"
        words = [*map(_word, [*command, "ssh-proxy", host.id]), "%p", *map(_word, options)]
        lines = [
            _MARK + json.dumps({"id": host.id, "origin": origin}),
            " ".join(["Host", *([name] if names[host.id] else []), host.id]),
            f"    HostKeyAlias {host.id}",
        ]
        if login.user:
            lines.append(f"    User {login.user}")
        if login.push_key is not None and host.id.startswith("i-"):
            lines += [f"    IdentityFile {login.identity_file(host.id)}", "    IdentitiesOnly yes"]
            # The quotes are for ssh before version 9.6: later ones refuse users with characters of the shell.
            words += ["--user='%r'", _word(f"--push-key={login.push_key}") if login.push_key else "--push-key"]
        lines.append(f"    ProxyCommand {' '.join(words)}")
        blocks.append(Block(host.id, origin, "\n".join(lines) + "\n"))
    return blocks


def origin_of(options: Sequence[str], account: str = "") -> str:
    """Return the ``origin`` of blocks with these options of AWS, from this account."""
    return shlex.join([*options, *([f"account {account}"] if account else [])])


def parse_blocks(text: str) -> list[Block]:
    """Return the blocks in the text of a file; other lines are ignored."""
    blocks = []
    for part in re.split(rf"^(?={_MARK}\{{)", text, flags=re.MULTILINE)[1:]:
        try:
            facts = json.loads(part.partition("\n")[0].removeprefix(_MARK))
            blocks.append(Block(facts["id"], facts["origin"], part.rstrip() + "\n"))
        except (ValueError, KeyError):
            continue
    return blocks


def format_blocks(blocks: Sequence[Block]) -> str:
    """Return the text of a file with these blocks."""
    return "\n".join([_HEADING, *(block.text for block in blocks)])


def path_word(path: str, tail: str = "") -> str:
    """Return ``path`` as a word of ``ssh_config``, followed by ``tail``, in which ``%`` has its meaning for ssh.

    Raises ``UsageError``.
    """
    if _NOT_IN_PATHS.search(path):
        raise UsageError(f"{path!r} has a character that a path in ssh_config cannot have")
    word = path.replace("%", "%%") + tail
    return f'"{word}"' if re.search(r"[\s#']", word) else word


def _plain_name(host: Host) -> str:
    """Return the name of ``host`` in ssh, in addition to its id; may be empty.

    Dots are replaced unless the user has given the name: a tag may be ``github.com``.
    """
    name = host.name
    if (_PLAIN_WITH_DOTS if host.is_named else _PLAIN).fullmatch(name) is None:
        name = _ODD.sub("-", name).strip("-")
    return "" if _ID.fullmatch(name) or name.lower() == "localhost" or name == host.id else name


def _word(text: str) -> str:
    """Return ``text`` as a word for the shell that runs a ProxyCommand. Raises ``UsageError``."""
    if not text.isprintable():
        raise UsageError(f"{text!r} has a character that a ProxyCommand cannot have")
    return shlex.quote(text).replace("%", "%%")

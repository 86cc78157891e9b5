"""Blocks of ssh_config: what is in them, and what a name that somebody else has chosen cannot do."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest

from session_manager_plugin.cli.ssh_blocks import (
    Host,
    Login,
    format_blocks,
    make_blocks,
    origin_of,
    parse_blocks,
    path_word,
)
from session_manager_plugin.errors import UsageError
from tests.support.programs import need
from tests.support.waiting import DEADLINE

WEB, DB = "i-0a1b2c3d4e5f60001", "i-0a1b2c3d4e5f60002"
NO_LOGIN = Login()
OPTIONS = ["--region=eu-west-1", "--profile=team"]


def block(name: str, *, is_named: bool = False, login: Login = NO_LOGIN) -> list[str]:
    """The lines of the block of a target with this name, without the first one."""
    (made,) = make_blocks([Host(WEB, name, is_named)], ["smp"], OPTIONS, login)
    return [line.strip() for line in made.text.splitlines()[1:]]


def test_a_block() -> None:
    assert block("web-1") == [
        f"Host web-1 {WEB}",
        f"HostKeyAlias {WEB}",
        f"ProxyCommand smp ssh-proxy {WEB} %p --region=eu-west-1 --profile=team",
    ]


def test_a_block_with_a_new_key() -> None:
    login = Login("ec2-user", "", lambda target: path_word(f"/home/100%/my keys/{target}.", "%r"))
    assert block("", login=login) == [
        f"Host {WEB}",
        f"HostKeyAlias {WEB}",
        "User ec2-user",
        f'IdentityFile "/home/100%%/my keys/{WEB}.%r"',
        "IdentitiesOnly yes",
        f"ProxyCommand smp ssh-proxy {WEB} %p --region=eu-west-1 --profile=team --user='%r' --push-key",
    ]


def test_a_key_is_for_instances_of_ec2() -> None:
    (made,) = make_blocks([Host("mi-0a1b2c3d4e5f60004")], ["smp"], [], Login("bob", ""))
    assert "Identity" not in made.text
    assert "--push-key" not in made.text


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("My Web (prod)", "My-Web-prod"),
        ("*", ""),
        ("!web", "web"),
        ("web?", "web"),
        ("-oProxyCommand=x", "oProxyCommand-x"),
        ("web\n    ProxyCommand rm -rf x", "web-ProxyCommand-rm-rf-x"),
        ("web\r\nMatch all", "web-Match-all"),
        ("$(id)`id`;'\"\\%h|&#", "id-id-h"),
        ("Wëb", "W-b"),
        ("数据库", ""),
        ("github.com", "github-com"),
        ("localhost", ""),
        ("LOCALHOST", ""),
        (DB, ""),
        ("mi-0a1b2c3d4e5f60004", ""),
    ],
)
def test_what_a_name_can_do(name: str, written: str) -> None:
    lines = block(name)
    assert lines[0] == " ".join(filter(None, ["Host", written, WEB]))
    assert lines[1:] == block("web-1")[1:]


def test_a_name_with_dots_that_the_user_has_given() -> None:
    assert block("db.prod.example", is_named=True)[0] == f"Host db.prod.example {WEB}"
    assert block("db prod.example", is_named=True)[0] == f"Host db-prod-example {WEB}"


def test_names_that_several_targets_have() -> None:
    hosts = [Host(WEB, "a b"), Host(DB, "a-b"), Host("i-0a1b2c3d4e5f60003", "c"), Host("i-0a1b2c3d4e5f60004", "d")]
    made = make_blocks(hosts, ["smp"], [], Login(), taken={"c"})
    assert [each.hosts[0] for each in made] == [f"a-b.{WEB}", f"a-b.{DB}", "c.i-0a1b2c3d4e5f60003", "d"]


@pytest.mark.parametrize(
    "make",
    [
        lambda: make_blocks([Host(WEB)], ["smp"], ["--profile=a\nb"], Login()),
        lambda: make_blocks([Host(WEB)], ["/opt/\x1b/smp"], [], Login()),
        lambda: make_blocks([Host(WEB)], ["smp"], [], Login("bob\nHost *")),
        lambda: make_blocks([Host(WEB)], ["smp"], [], Login("-bob")),
        lambda: path_word('/home/"/key'),
        lambda: path_word("/home/${HOME}/key"),
    ],
)
def test_what_ssh_config_cannot_hold(make: object) -> None:
    assert callable(make)
    with pytest.raises(UsageError, match="cannot"):
        make()


def test_a_file_is_read_as_it_was_written() -> None:
    blocks = make_blocks([Host(WEB, "web"), Host(DB, "db")], ["/opt/my smp/smp"], ["--profile=é '%"], Login("bob"))
    text = format_blocks(blocks)
    assert parse_blocks(text) == blocks
    assert blocks[0].origin == origin_of(["--profile=é '%"])
    damaged = text.replace('"origin"', '"other"', 1)
    assert parse_blocks(f"{damaged}\n# smp {{\n") == blocks[1:]


def test_ssh_reads_what_is_written(tmp_path: Path) -> None:
    """ssh's own parser, and the words that a shell makes of the ProxyCommand."""
    need("ssh")
    command = ["/opt/my smp's/100%/smp"]
    options = ['--profile=it\'s 100% "mine"; $(id) # no comment']
    login = Login("bob", "/keys/a b.pub", lambda _target: path_word("/keys/a b"))
    config = tmp_path / "config"
    config.write_text(format_blocks(make_blocks([Host(WEB, "web x")], command, options, login)))
    run = subprocess.run(
        ["ssh", "-F", str(config), "-G", "web-x"], capture_output=True, text=True, check=True, timeout=DEADLINE
    )
    settings = dict(line.split(" ", 1) for line in run.stdout.splitlines())
    assert (settings["user"], settings["hostkeyalias"], settings["identityfile"]) == ("bob", WEB, "/keys/a b")
    words = shlex.split(settings["proxycommand"].replace("%%", "%"))
    assert words == [*command, "ssh-proxy", WEB, "%p", *options, "--user=%r", "--push-key=/keys/a b.pub"]

"""The target's shells and tools, for scripts that run over pipes."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from tests.support.programs import need

SHELLS = ("dash", "bash", "busybox")
_TOOLS = (
    "sh tr printf dd tail head gzip tar stat wc base64 od sha256sum sha512sum sha1sum md5sum cat tee chmod touch mv "
)
TOOLS = tuple(f"{_TOOLS} mkdir rm readlink stty find".split())


def tools_directory(parent: Path, shell: str, without: frozenset[str] = frozenset()) -> Path:
    """Make a directory that holds all the tools that a target has, as links; with ``busybox``, only its applets."""
    need(shell)
    directory = parent / "bin"
    directory.mkdir()
    for tool in TOOLS:
        if tool in without:
            continue
        program = "busybox" if shell == "busybox" else shell if tool == "sh" else tool
        found = shutil.which(program)
        assert found is not None, program
        (directory / tool).symlink_to(os.path.realpath(found) if program == "busybox" else found)
    return directory


def start_script(directory: Path, home: Path, script: str) -> subprocess.Popen[bytes]:
    """Start ``script`` with the tools of ``directory``, its streams being pipes, in a process group of its own."""
    return subprocess.Popen(
        [str(directory / "sh"), "-c", script],
        env={"PATH": str(directory), "HOME": str(home)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )

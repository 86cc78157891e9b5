"""A target whose only programs are those of busybox."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from session_manager_plugin.errors import ConfigurationError


@contextmanager
def busybox_path() -> Iterator[str]:
    """Yield a directory in which every program is an applet of busybox, for PATH; it is removed at the end.

    Raises ``ConfigurationError`` if busybox is not installed.
    """
    busybox = shutil.which("busybox")
    if busybox is None:
        raise ConfigurationError("busybox is not installed")
    applets = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout.split()
    with tempfile.TemporaryDirectory(prefix="smp-busybox-") as directory:
        for applet in applets:
            (Path(directory) / applet).symlink_to(os.path.realpath(busybox))
        yield directory

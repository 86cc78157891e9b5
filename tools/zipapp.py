"""Builds `dist/smp.pyz`: one file with everything that `smp` needs but Python; `make zipapp` runs it.

Of botocore's data, the biggest part of an installation, it holds the services that this package calls. Compiled modules
cannot be imported from an archive, so the program unpacks itself into the user's cache directory when it is first run.
They are those of the Python version and the platform that built it.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipapp
from pathlib import Path

ROOT = Path(__file__).parents[1]
OUTPUT = ROOT / "dist" / "smp.pyz"
SERVICES = frozenset({"ec2", "ec2-instance-connect", "ecs", "kms", "rds", "signin", "ssm", "sso", "sso-oidc", "sts"})
"""The directories of botocore's data that are kept: what this package and the providers of credentials call."""
BOOTSTRAP = """\
import os
import sys

if sys.version_info < (3, 11):
    sys.exit("smp: this needs Python 3.11 or newer, and %s is Python %d.%d" % (sys.executable, *sys.version_info[:2]))

DIGEST = "{digest}"


def unpacked():
    import shutil
    import tempfile
    import zipfile

    cache = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(cache):
        cache = os.path.join(os.path.expanduser("~"), ".cache")
    parent = os.path.join(cache, "smp")
    directory = os.path.join(parent, "zipapp-" + DIGEST)
    if not os.path.isdir(directory):
        os.makedirs(parent, mode=0o700, exist_ok=True)
        unfinished = tempfile.mkdtemp(dir=parent)
        with zipfile.ZipFile(sys.argv[0]) as archive:
            archive.extractall(unfinished)
        try:
            os.rename(unfinished, directory)
        except OSError:
            if not os.path.isdir(directory):
                raise
            shutil.rmtree(unfinished)  # another process was faster
    if os.stat(directory).st_uid != os.getuid():
        sys.exit("smp: %s belongs to another user" % directory)
    return directory


sys.path.insert(0, os.path.join(unpacked(), "site"))
if os.path.basename(sys.argv[0]).startswith("session-manager-plugin"):
    from session_manager_plugin.cli.plugin import main
else:
    from session_manager_plugin.__main__ import main
sys.exit(main())
"""


def build(output: Path) -> None:
    """Write the program to ``output``."""
    with tempfile.TemporaryDirectory() as directory:
        site = Path(directory, "site")
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
        subprocess.run([*pip, "--no-compile", "--target", str(site), str(ROOT)], check=True)
        for unused in (site / "bin", site / "share"):
            shutil.rmtree(unused, ignore_errors=True)
        for service in (site / "botocore" / "data").iterdir():
            if service.is_dir() and service.name not in SERVICES:
                shutil.rmtree(service)
        digest = hashlib.sha256()
        for file in sorted(path for path in site.rglob("*") if path.is_file()):
            digest.update(f"{file.relative_to(site)}\0".encode() + file.read_bytes())
        Path(directory, "__main__.py").write_text(BOOTSTRAP.replace("{digest}", digest.hexdigest()[:16]))
        output.parent.mkdir(exist_ok=True)
        zipapp.create_archive(directory, output, interpreter="/usr/bin/env python3", compressed=True)
        output.chmod(0o755)


if __name__ == "__main__":
    build(OUTPUT)
    sys.stdout.write(f"{OUTPUT.relative_to(ROOT)}: {OUTPUT.stat().st_size / 1e6:.1f} MB\n")

"""Fuzz for as long as one likes: ``python -m tests.fuzz [--seconds N] [--seed N] [TARGET ...]``.

With atheris installed (``pip install atheris``; it is no dependency) coverage guides it, and inputs that reach new
code are kept in ``--keep DIRECTORY``. Without it inputs of the corpus are changed at random. An input that makes a
target fail is written to ``corpus/TARGET/crash-…``: from then on the tests replay it.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import random
import subprocess
import sys
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

CORPUS = Path(__file__).parent / "corpus"
Target = Callable[[bytes], None]


def load(name: str) -> Target:
    """The target; imported only now, so that coverage can be built in."""
    target: Target = importlib.import_module("tests.fuzz.targets").TARGETS[name]
    return target


def guarded(name: str, target: Target) -> Target:
    """The target, which keeps the input that makes it fail."""

    def run(data: bytes) -> None:
        try:
            target(data)
        except BaseException as error:
            if not isinstance(error, KeyboardInterrupt):
                found = CORPUS / name / f"crash-{sha256(data).hexdigest()[:12]}"
                found.parent.mkdir(parents=True, exist_ok=True)
                found.write_bytes(data)
                print(f"{name}: {type(error).__name__}: {error}; see {found}", flush=True)
            raise

    return run


def fuzz_with_atheris(name: str, seconds: int, seed: int, keep: Path | None) -> None:
    """Until the time is over; does not return."""
    atheris = importlib.import_module("atheris")
    with atheris.instrument_imports(include=["session_manager_plugin"]):
        target = load(name)
    directories = [str(CORPUS / name)] if (CORPUS / name).is_dir() else []
    if keep is not None:
        (keep / name).mkdir(parents=True, exist_ok=True)
        directories.insert(0, str(keep / name))
    options = [f"-max_total_time={seconds}", f"-seed={seed}", "-max_len=4096", "-timeout=20", "-rss_limit_mb=1024"]
    atheris.Setup([sys.argv[0], *options, "-verbosity=0", "-print_final_stats=1", *directories], guarded(name, target))
    atheris.Fuzz()


def fuzz_at_random(name: str, seconds: int, seed: int) -> None:
    """Change inputs of the corpus at random until the time is over."""
    target, dice = guarded(name, load(name)), random.Random(f"{name} {seed}")
    inputs = [file.read_bytes() for file in sorted((CORPUS / name).glob("*"))] or [b""]
    end, runs = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        data = bytearray(dice.choice(inputs))
        for _ in range(dice.randint(1, 8)):
            position = dice.randint(0, len(data))
            match dice.randrange(4):
                case 0:
                    data[position : position + 1] = bytes([dice.randrange(256)])
                case 1:
                    data[position:position] = dice.randbytes(dice.randint(1, 8))
                case 2:
                    del data[position : position + dice.randint(1, 16)]
                case 3:
                    other = dice.choice(inputs)
                    start = dice.randint(0, len(other))
                    data[position:position] = other[start : start + dice.randint(1, 200)]
        target(bytes(data))
        runs += 1
    print(f"{name}: {runs} runs", flush=True)


def fuzz(name: str, seconds: int, seed: int, keep: Path | None) -> None:
    """Fuzz one target."""
    if importlib.util.find_spec("atheris") is None:
        fuzz_at_random(name, seconds, seed)
    else:
        fuzz_with_atheris(name, seconds, seed, keep)


def main() -> int:
    """The status is 1 if a target failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__.partition("\n")[0])
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="all of them by default")
    parser.add_argument("--seconds", type=int, default=60, help="for each target (%(default)s)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="where atheris keeps inputs that reach new code")
    given = parser.parse_args()
    names = given.targets or sorted(importlib.import_module("tests.fuzz.targets").TARGETS)
    if len(names) == 1:
        fuzz(names[0], given.seconds, given.seed, given.keep)
        return 0
    options = [f"--seconds={given.seconds}", f"--seed={given.seed}", *([f"--keep={given.keep}"] if given.keep else [])]
    # Each in a process of its own: coverage has to be built in before anything is imported.
    results = [subprocess.run([sys.executable, "-m", "tests.fuzz", *options, name], check=False) for name in names]
    return int(any(result.returncode for result in results))


if __name__ == "__main__":
    sys.exit(main())

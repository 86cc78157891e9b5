"""Both ways at once: each end sends a stream that the other can check, and hashes what comes.

Run as a program it is the remote end of a shell: ``python exchange.py SIZE SEED`` on a terminal that it makes raw.
"""

from __future__ import annotations

import hashlib
import os
import random
import sys
import threading
from collections.abc import Iterator

BLOCK_SIZE = 64 * 1024
READY = b"\x01ready\x02"
"""What the remote program says when its terminal is raw; nothing before it counts."""


def blocks(size: int, seed: int) -> Iterator[bytes]:
    """A stream of ``size`` bytes, the same for the same seed, of which no two blocks are the same."""
    body = random.Random(seed).randbytes(BLOCK_SIZE - 8)
    number = 0
    while size > 0:
        block = number.to_bytes(8, "big") + body
        yield block[:size]
        size -= len(block)
        number += 1


def digest(size: int, seed: int) -> str:
    """The hash of that stream."""
    hashed = hashlib.sha256()
    for block in blocks(size, seed):
        hashed.update(block)
    return hashed.hexdigest()


def main(size: int, seed: int) -> None:
    """Send the stream of ``seed`` to standard output, take ``size`` bytes from standard input, and tell their hash."""
    import tty

    tty.setraw(0)
    os.write(1, READY)
    hashed = hashlib.sha256()

    def read() -> None:
        left = size
        while left and (data := os.read(0, min(left, BLOCK_SIZE))):
            hashed.update(data)
            left -= len(data)

    reader = threading.Thread(target=read)
    reader.start()
    for block in blocks(size, seed):
        while block:
            block = block[os.write(1, block) :]
    reader.join()
    os.write(1, hashed.hexdigest().encode())


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))

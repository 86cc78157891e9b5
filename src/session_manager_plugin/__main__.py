"""``smp``, also as ``python -m session_manager_plugin``."""

import sys

from session_manager_plugin.cli.interrupts import end_on_interrupt


def main() -> int:
    """Run ``smp`` with the arguments of the process, and return the exit status.

    If a signal has ended the session, ends the process by that signal.
    """
    end_on_interrupt()  # before the imports
    from session_manager_plugin.cli.main import main as smp

    return smp()


if __name__ == "__main__":
    sys.exit(main())

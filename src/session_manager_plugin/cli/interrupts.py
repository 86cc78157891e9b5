"""Ctrl-C while no session runs.

Python makes a ``KeyboardInterrupt`` of SIGINT wherever the program is; in an import it is shown with a traceback. The
programs take SIGINT's default action instead, from their first instruction on, until ``cli.signals`` handles it for an
event loop. This module imports nothing but ``signal``: until that is done, Ctrl-C still shows a traceback.
"""

import signal


def end_on_interrupt() -> None:
    """Let SIGINT end the process by its default action. An ignored SIGINT stays ignored."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)

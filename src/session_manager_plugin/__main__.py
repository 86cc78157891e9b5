"""`python -m session_manager_plugin` is `smp`."""

import sys

from session_manager_plugin.cli.main import main

if __name__ == "__main__":
    sys.exit(main())

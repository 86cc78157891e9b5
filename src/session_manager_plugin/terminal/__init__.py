"""The user's side of a session: the terminal's modes and size, input and output, and the status line."""

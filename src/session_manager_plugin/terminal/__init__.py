"""The user's side of a session: terminal modes, its size, its bytes in and out, and the status line."""

"""What builds parts of the repository; nothing here is installed."""

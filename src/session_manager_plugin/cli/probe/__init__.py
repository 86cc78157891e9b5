"""`smp probe`: what it checks, in which order, and how that is shown."""

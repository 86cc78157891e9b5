"""`smp exec` on many targets: which, how their outputs are shown, and what became of them."""

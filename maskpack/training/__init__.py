"""`train-mask`: options, what they open, the one loop, a run."""

"""`pack`: runs, packs and fine-tuned networks become one file."""

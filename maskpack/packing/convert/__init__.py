"""Networks that were fine-tuned, and masks that others published, as packed tasks."""

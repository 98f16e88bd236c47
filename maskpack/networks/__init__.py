"""A task's network: masks put on a backbone, and turned into a packed task and back."""

"""`eval`: a task rebuilt from its bits and measured; one picture put through it."""

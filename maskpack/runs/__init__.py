"""A training's folder, and every name or path a user can give, opened: backbone, run, pack."""

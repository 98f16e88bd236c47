"""One frozen vision backbone, many tasks, each a small file of masks."""

"""The file: what a pack holds, its bits and codes; read, written, merged, counted in bytes."""

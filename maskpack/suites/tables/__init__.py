"""The tables of a suite."""

"""Methods that learn task after task in one network."""

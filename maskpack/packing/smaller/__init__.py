"""Ways to store a task in fewer bytes, measured, and the choice among them."""

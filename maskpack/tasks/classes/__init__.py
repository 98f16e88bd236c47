"""Tasks whose pictures have one label each."""

"""What runs a model fastest on this machine."""

"""Numbers that gloam publishes, each from a command that anyone can run: ``python -m benchmarks NAME --json``."""

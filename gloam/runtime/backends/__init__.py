"""Sessions: whatever runs an exported graph, behind one interface."""

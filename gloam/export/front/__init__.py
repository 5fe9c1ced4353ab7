"""What may stand in front of an exported network inside its graph: resizing, reflection, a translator."""

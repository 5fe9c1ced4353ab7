"""Settings by name, one YAML a run; the papers' values unless a comment says why not."""

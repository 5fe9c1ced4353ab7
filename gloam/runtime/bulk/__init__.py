"""Very many images through a model: stages, sinks, and a cluster."""

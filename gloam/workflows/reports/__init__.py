"""HTML pages of figures, each one file with nothing to fetch."""

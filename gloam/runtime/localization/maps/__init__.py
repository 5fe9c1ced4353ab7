"""Maps: what is read, which images are matched, and what is built and kept of them."""

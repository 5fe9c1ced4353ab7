"""Local features of images: where they come from, and their files."""

"""Networks that describe an image by many local features."""

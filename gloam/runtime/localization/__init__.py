"""Local features, matches, maps and poses; pycolmap stands behind one adapter."""

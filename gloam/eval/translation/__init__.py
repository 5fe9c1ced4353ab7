"""How good translated images are: distances between sets, similarity of pairs, error of cycles."""

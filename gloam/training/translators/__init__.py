"""Training of day-night translators: data, trainers of the papers, the loop around them."""

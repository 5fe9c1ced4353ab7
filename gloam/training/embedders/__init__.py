"""Training of embedders: contrastive learning on mined tuples, made nights among them."""

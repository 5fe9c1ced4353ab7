"""The CycleGAN study's experiments again."""

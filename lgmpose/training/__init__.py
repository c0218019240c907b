"""Training: the recipe, the loop, checkpoints, and what surrounds them."""

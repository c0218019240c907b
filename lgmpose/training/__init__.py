"""Training: the recipe, the loop, checkpoints, logs and evaluations."""

"""What a pose is: skeletons, geometry of crops, and codecs between joints and heatmaps. NumPy only."""

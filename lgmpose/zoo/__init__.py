"""Names to networks; weights in and out."""

"""Fetches, checks and converts the official data sets."""

"""Writes and checks the trained model and the statistics of its training data."""

"""Loads a version's files with TensorFlow for the registry: predicts with them and converts them to other formats."""

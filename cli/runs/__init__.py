"""Commands that start and follow runs."""

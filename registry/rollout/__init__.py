"""Rollouts: a candidate takes traffic, is judged after every request, and is promoted or rolled back."""

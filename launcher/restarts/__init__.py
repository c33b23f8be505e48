"""Restarts of a run by itself: the decision, from values alone."""

"""Tuning studies: search spaces, trials and their life, the training of the best trial, the page."""

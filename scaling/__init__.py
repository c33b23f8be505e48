"""Scaling studies: plans, statistics, laws, predictions, figures and the report."""

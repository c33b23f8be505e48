"""Figures, tables, sentences and the page of a report."""

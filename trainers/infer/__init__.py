"""Batch inference: what each rank runs to answer its part of the rows, and how the parts become one file."""

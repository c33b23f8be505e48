"""Data sources, the order of examples, and what each rank reads."""

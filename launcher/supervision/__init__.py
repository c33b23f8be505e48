"""Supervises the ranks of an attempt, names the first failing rank, and ends every process."""

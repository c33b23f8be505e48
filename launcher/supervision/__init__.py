"""Supervises the ranks of an attempt, names the first failing rank, leaves no process behind."""

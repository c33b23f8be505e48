"""Follows the ranks of one attempt, names what failed, and leaves no process behind."""

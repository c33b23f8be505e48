"""Runs that wait for other runs: the names behind ``--after``, and workflows of several steps."""

"""Elastic runs: the authority that decides which ranks form a world, and the replacement of ranks that were lost."""

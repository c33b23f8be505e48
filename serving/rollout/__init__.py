"""Rollouts in a front: which version answers whom, and what is counted of the answers."""

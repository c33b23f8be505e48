"""Discrete-event simulation of data-parallel training."""

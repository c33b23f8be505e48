"""Runs a program that loads a file nobody trusts yet: without network, with limits, writing to named folders only."""

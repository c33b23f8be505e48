"""Runs on clusters that this machine reaches over ssh."""

"""Placement, start methods, rank wrapper, supervision, provenance and set-up of the environment."""

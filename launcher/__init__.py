"""Placement, start commands, the run folder, provenance and supervised local runs."""

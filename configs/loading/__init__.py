"""Finds, overrides and checks YAML files."""

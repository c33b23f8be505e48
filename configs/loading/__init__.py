"""Finds and validates YAML files, and applies overrides."""

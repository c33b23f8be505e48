"""The supervisor: follows the registry, checks and loads versions, keeps fronts and engines alive."""

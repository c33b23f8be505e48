"""The schema of ``launch``: its sections."""

"""Numbered model versions: publish, verify, promote, roll back."""

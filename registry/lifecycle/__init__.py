"""Publish, promote, roll back, retire and prune versions; verify and reconcile the folder."""

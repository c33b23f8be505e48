"""Runs from a user's own machine: OpenSSH to the login node, where saman itself does the work."""

"""Engines: a small file for each library, each in processes of its own."""

"""Trust in files that other users may have written: who owns them, and what a run folder may have executed."""

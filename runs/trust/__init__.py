"""Trust in files that other users may have written: ownership, permissions, and what may be executed from a run folder."""

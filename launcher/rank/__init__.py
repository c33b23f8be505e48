"""The wrapper that every start method starts once per process."""

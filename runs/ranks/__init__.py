"""Each process of a run: its identity, heartbeats, final record and operating-system processes."""

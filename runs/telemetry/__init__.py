"""Telemetry: its schema, its columnar reader, and the one definition of throughput."""

"""The run folder and everything in it: paths, schemas, events, telemetry, checkpoints, locks."""

"""The training loop, the data-parallel step, learning rates, telemetry."""

"""The one training loop, the data-parallel step, and what they measure."""

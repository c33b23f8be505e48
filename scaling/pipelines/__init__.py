"""Step model and forecasts of pipelined training."""

"""The page of a tuning study."""

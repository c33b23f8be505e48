"""Partition, schedule and cost model of a model split into stages; numpy only."""

"""Schemas of what a training learns by: losses, metrics, optimisers, schedules, averages, rates of layers."""

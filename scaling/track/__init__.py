"""Forecasts keep score: records of forecasts before the runs, and their outcomes when the runs are there."""

"""Scaling laws, communication cost, fits, forecasts and the published results behind them."""

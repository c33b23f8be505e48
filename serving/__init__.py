"""TensorFlow Serving's interface on the registry's versions: fronts, engines, hot swap, rollouts."""

"""Shows runs in MLflow and TensorBoard."""

"""TensorFlow Serving's interface: messages, JSON, statuses, signatures."""

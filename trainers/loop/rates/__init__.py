"""The learning rate: by step, by schedules of Keras or the user, by a metric."""

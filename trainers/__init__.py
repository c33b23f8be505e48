"""What each rank runs: the loop, strategies, data, models, checkpoints and export. The only room that imports TensorFlow."""

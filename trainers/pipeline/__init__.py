"""Model parallelism on ranks: the graph of a Keras model, its stages, what travels between them, and the step."""

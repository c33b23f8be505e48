"""Signs of a training that goes wrong: gradients that are not finite, ranks whose weights differ."""

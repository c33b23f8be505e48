"""The network of a pipeline: where stages listen, how two stages confirm each other, and the frames between them."""

"""``python -m saman.trainers.profile``: measures each layer of a model on this machine."""

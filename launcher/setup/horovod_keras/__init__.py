"""Horovod's Keras interface on Keras 3: patches to the Python files of the built wheel; nothing is compiled anew."""

"""The topology of a node: which cores, GPUs and network adapters are near each other."""

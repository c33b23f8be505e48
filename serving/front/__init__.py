"""A front: the process that clients talk to, over REST and gRPC."""

"""What the authority of an elastic run and its ranks say to each other."""

"""What follows from the curves of a study: what bounds a run, and the time to an accuracy."""

"""Engine processes: what a front and the process that computes say to each other, and the process's loop."""

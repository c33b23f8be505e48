"""Pages that show Horovod's timelines."""

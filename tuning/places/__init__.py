"""Where the runs of a study happen: this machine or a cluster."""

"""Records of tuning studies in run folders."""

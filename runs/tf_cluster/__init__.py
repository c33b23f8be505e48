"""TF_CONFIG: which process has which role, where each listens, and who may connect."""

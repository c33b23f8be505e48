"""What users' functions get, how they are called, and how their failures are reported."""

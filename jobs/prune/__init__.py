"""Disk use of runs, and the removal of old runs, copies of code, job arrays and caches."""

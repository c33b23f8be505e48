"""The measured search for a machine's settings: ``saman autotune``."""

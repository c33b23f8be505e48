"""What other users of a shared machine could read, change or misuse: ``saman doctor --security``."""

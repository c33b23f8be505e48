"""Start methods, one per file, and the choice between them."""

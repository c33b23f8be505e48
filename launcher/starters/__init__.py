"""Start methods: one small file each, all of one shape, and the choice between them."""

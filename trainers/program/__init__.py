"""What is trained: model, loss and optimiser."""

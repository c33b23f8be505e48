"""What is trained, and how: model, loss, optimiser, and the passes, sums and update of a step."""

"""Training steps of dense networks with hand-derived gradients."""

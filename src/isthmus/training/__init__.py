"""The training loop and what it needs: steps, checkpoints, early stopping, progress."""

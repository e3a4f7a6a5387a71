"""Gates: what augmented rows, and a batch of them, must pass; each with a threshold, a reason, a counter."""

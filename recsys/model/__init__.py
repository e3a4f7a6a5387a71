"""The text encoder, the towers and the ranker: with training and export the only rooms that import torch."""

"""A recommender for shops whose histories are short and whose item texts are thin."""

__version__ = "0.1.0"

"""Augmentation: ops that plan and apply, composed by policies, bounded, replayable."""

"""The search for a dataset's augmentation: many cheap trials, few finalists, one look at new events."""

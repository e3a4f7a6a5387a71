"""The search for a dataset's settings: towers first, then lists, one look at new events at the end."""

"""Data in and features: what enters is checked, counted and brought to one form."""

"""The feature repository: what Feast knows of users and items. `definitions` puts the parts together."""

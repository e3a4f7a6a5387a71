"""What an expansion did: counts by op and reason, how the data moved, samples to look at, cost and time."""

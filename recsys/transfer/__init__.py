"""What one shop's data is worth in another: by text alone, through shared users, and through friends."""

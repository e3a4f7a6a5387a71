"""One file per resource; paths are written out in full, so that a route's label is its path."""

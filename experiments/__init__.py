"""Programs, one per experiment of the paper."""

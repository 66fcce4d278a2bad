"""Floor 4: many files at once."""

"""Floor 5: recipes x protocols x seeds, and the report on them."""

"""Floor 4: recipes, and fitting them."""

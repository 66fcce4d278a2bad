"""Floor 5: recipes x protocols x seeds, their results and figures."""

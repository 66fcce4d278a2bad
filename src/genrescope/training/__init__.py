"""Recipes, and fitting and exporting the models that they describe."""

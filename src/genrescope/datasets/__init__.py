"""Data sets: tracks, their labels, and how to split them."""

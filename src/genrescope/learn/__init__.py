"""Floor 7: a model of a library's own genres, from its catalogue and its tags."""

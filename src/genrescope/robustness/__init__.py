"""How much of a model's answers survives transforms of the audio that keep its genre."""

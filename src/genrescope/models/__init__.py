"""Floor 1: the networks, from tensors to logits."""

"""Floor 2: what a model sees of a track. Importing this package fills the registry."""

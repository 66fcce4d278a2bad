"""Floor 1: which tracks there are, what they are labelled, and how they may be split."""

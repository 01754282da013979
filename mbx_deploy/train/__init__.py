"""Training: MatchboxNet in PyTorch, data set, augmentation, loop. Needs the `train` extra."""

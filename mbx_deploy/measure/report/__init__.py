"""One page about a build: what the model is, how well it does, what it costs, and that every engine agrees."""

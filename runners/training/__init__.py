"""A training run: an actor-learner system with its record, its checkpoints and its display."""

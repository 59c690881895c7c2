"""Training runs: an actor-learner system, its metrics, its checkpoints and its display."""

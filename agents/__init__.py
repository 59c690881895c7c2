"""Acting and learning: trajectories, V-trace, losses, the learner, the collector and its actor processes."""

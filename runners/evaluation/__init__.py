"""Evaluation of saved agents: rollouts, scores and statistics."""

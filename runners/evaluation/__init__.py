"""Agents at play: rollouts, scores, and what is said about them."""

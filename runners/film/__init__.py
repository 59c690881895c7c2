"""Agents at play, for people to look at: films, the window, and what is drawn beside the game."""

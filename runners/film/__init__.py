"""Films of agents, the watch window, and the overlay beside the game."""

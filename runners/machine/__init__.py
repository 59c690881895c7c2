"""The machine that rfwp runs on: its resources, its signals, and what is wrong with it."""

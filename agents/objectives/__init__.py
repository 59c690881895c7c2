"""Training objectives, one per file, each with its settings, loss and maths."""

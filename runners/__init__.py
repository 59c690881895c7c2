"""What the command line calls: training, evaluation, run folders, checkpoints and metrics."""

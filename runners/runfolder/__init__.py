"""The run folder: each file in it has one writer and one reader."""

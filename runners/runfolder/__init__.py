"""The folder of a run: what lies in it, each file with one writer and one reader."""

"""The settings of a run, and how they are read from command lines and files."""

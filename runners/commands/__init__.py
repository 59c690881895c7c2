"""The commands of the command line, one file each: from its words to its exit code."""

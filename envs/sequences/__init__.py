"""All supervised sequence tasks, one per file. The file name is the name on the command line."""

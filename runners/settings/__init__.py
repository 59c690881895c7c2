"""What a run can be told: the settings, and how command lines and files become settings."""

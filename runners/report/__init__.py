"""Reports: curves, tables and statistics of runs on one page."""

"""Reports: from run folders to curves, tables and statistics on one page."""

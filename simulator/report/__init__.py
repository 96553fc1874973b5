"""Reports of leagues and runs: the page, its words, tables and drawings."""

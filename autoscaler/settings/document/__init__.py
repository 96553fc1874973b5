"""Files that users write (settings, scenarios): read with the line of every key, and each complaint in one line."""

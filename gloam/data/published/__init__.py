"""Published files by name, and fetching them with their hashes pinned."""

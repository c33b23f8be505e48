"""Files on a shared file system: written whole or not at all, appended line by line, hashed, synced."""

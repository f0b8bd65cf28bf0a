"""What is kept on disk: atomic files, seals, locks, keys, SAEs."""

"""Sources: images with their annotations by number, whatever holds them on disk."""

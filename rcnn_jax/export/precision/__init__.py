"""Lower precision, written into a finished graph."""

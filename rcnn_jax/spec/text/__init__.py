"""The text of a spec: tokens, values, positions, messages."""

"""A trial of a spec: go or no-go within minutes, before hours are spent on it."""

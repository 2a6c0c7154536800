"""Readers of annotated folders as other tools write them, and what decides which one it is."""

"""The field tables: what a spec may say, row by row."""

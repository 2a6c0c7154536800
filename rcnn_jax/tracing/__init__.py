"""Reading a function by its trace."""

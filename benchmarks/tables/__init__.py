"""Tables of the documentation, each made by one command."""

"""Field tables of all specs."""

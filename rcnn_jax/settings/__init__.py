"""Settings of the algorithms, as frozen values in the words of the field."""

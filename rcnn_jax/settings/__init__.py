"""What the algorithms need to know, as frozen values in the words of the field."""

"""What a detector computes: the algorithm as pure functions, and configs in the words of the field."""

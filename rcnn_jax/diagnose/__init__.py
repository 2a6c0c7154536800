"""Diagnosis of data, specs and results before hours are spent: doctor, preflight and their checks."""

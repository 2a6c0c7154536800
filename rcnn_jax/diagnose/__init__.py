"""What is wrong with data, specs and results, found before hours are spent: doctor and its checks."""

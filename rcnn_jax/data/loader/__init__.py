"""Data loader: plan, decode, augment, pad."""

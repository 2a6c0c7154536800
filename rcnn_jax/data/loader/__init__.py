"""From a source to batches: plan, decode, augment, pad."""

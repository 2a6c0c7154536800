"""What a run keeps and what it gives away: resumable checkpoints, bundles, sealed containers."""

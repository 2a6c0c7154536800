"""Files of weights and state: resumable checkpoints, bundles, encryption, pretrained weights."""

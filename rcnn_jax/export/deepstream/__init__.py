"""The DeepStream bundle of an exported model."""

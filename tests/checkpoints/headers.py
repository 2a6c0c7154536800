"""The least that the header of a bundle says."""

MODEL_HEADER = {
    "spec": "random_seed: 42",
    "class_names": ["car", "person"],
    "arch": "resnet:18",
    "channel_plan": {"conv1": 8},
    "convention": {},
}

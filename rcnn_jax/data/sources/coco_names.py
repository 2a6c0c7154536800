"""The categories of COCO: ids 1 to 90 with gaps, 80 of them used since 2017."""

_LINES = """
1 person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, fire hydrant
13 stop sign, parking meter, bench, bird, cat, dog, horse, sheep, cow, elephant, bear, zebra, giraffe
27 backpack, umbrella
31 handbag, tie, suitcase, frisbee, skis, snowboard, sports ball, kite, baseball bat, baseball glove
41 skateboard, surfboard, tennis racket, bottle
46 wine glass, cup, fork, knife, spoon, bowl, banana, apple, sandwich, orange, broccoli, carrot, hot dog
59 pizza, donut, cake, chair, couch, potted plant, bed
67 dining table
70 toilet
72 tv, laptop, mouse, remote, keyboard, cell phone, microwave, oven, toaster, sink, refrigerator
84 book, clock, vase, scissors, teddy bear, hair drier, toothbrush
"""
"""Every line begins with the id of its first name; the others follow one by one."""


def _names() -> dict[int, str]:
    categories = {}
    for line in _LINES.strip().splitlines():
        first, _, names = line.partition(" ")
        for offset, name in enumerate(names.split(", ")):
            categories[int(first) + offset] = name
    return categories


COCO_NAMES = _names()
"""{category id: name}."""

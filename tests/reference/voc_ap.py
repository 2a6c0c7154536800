"""A slow reading of the VOC metric: one loop per sentence, plain Python numbers, no shared code."""


def iou(a, b):
    height = min(a[2], b[2]) - max(a[0], b[0])
    width = min(a[3], b[3]) - max(a[1], b[1])
    if height <= 0 or width <= 0:
        return 0.0
    inner = height * width
    return inner / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inner)


def curve(images, wanted, threshold, score_threshold):
    """Returns (hits after each counted detection, number of objects) of one class.

    Each image is (detections [(box, score, class)], objects [(box, class, difficult)]).
    """
    ranked = []
    objects = 0
    for number, (detections, truth) in enumerate(images):
        objects += sum(1 for _, of, difficult in truth if of == wanted and not difficult)
        for box, score, of in detections:
            if of == wanted and score >= score_threshold:
                ranked.append((score, number, box))
    ranked.sort(key=lambda entry: -entry[0])
    taken = set()
    hits = []
    count = 0
    for _, number, box in ranked:
        best, best_index = 0.0, None
        for index, (gt_box, of, _) in enumerate(images[number][1]):
            if of == wanted and iou(box, gt_box) > best:
                best, best_index = iou(box, gt_box), index
        if best_index is not None and best >= threshold:
            if images[number][1][best_index][2]:
                continue
            if (number, best_index) not in taken:
                taken.add((number, best_index))
                count += 1
        hits.append(count)
    return hits, objects


def average_precision(hits, objects, metric):
    if objects == 0:
        return 0.0
    points = [(h / objects, h / (i + 1), h) for i, h in enumerate(hits)]
    if metric == "voc07":
        best = []
        for tenth in range(11):
            reached = [p for _, p, h in points if 10 * h >= tenth * objects]
            best.append(max(reached, default=0.0))
        return sum(best) / 11
    area = 0.0
    before = 0.0
    for i, (recall, _, _) in enumerate(points):
        area += (recall - before) * max(p for _, p, _ in points[i:])
        before = recall
    return area

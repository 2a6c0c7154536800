"""Kinds of findings of the doctor: sentence, severity, and what to do."""

from rcnn_jax.data.findings import Kind

UNREADABLE_LABEL = Kind(
    sentence="{count} labels cannot be read, the first is {where}",
    severity="error",
    advice="correct the line; `--fix` leaves it out",
)
NO_IMAGE = Kind(
    sentence="{count} labels have no image, the first is {where}",
    severity="error",
    advice="put the image back, or remove its labels; `--fix` leaves them out",
)
NO_LABELS = Kind(
    sentence="{count} images have no label file, the first is {where}",
    severity="error",
    advice="an empty label file says that there is no object; `--fix` leaves the image out",
)
BROKEN_IMAGE = Kind(
    sentence="{count} images cannot be read, the first is {where}",
    severity="error",
    advice="copy them again, or remove them with their labels; `--fix` leaves them out",
)
OTHER_SIZE = Kind(
    sentence="{count} images have another size than their labels were made for, the first is {where}",
    severity="error",
    advice="scale the boxes to the image, or put the original images back",
)
TURNED = Kind(
    sentence="{count} images say that they are shown turned (EXIF), the first is {where}",
    severity="warning",
    advice="pixels are read as stored: if the labels were drawn on the turned picture they are wrong",
)
DRAWN_TURNED = Kind(
    sentence="{count} images are stored turned, and labelled as EXIF shows them, the first is {where}",
    severity="error",
    advice="pixels are read as stored: `--fix` turns them, and so does `init` in a copy",
)
LOW_RANGE = Kind(
    sentence="{count} images of 16 bits are nearly black, the first is {where}",
    severity="warning",
    advice="the upper byte is read, and data of fewer bits lies below it: multiply 12-bit data by 16",
)
EQUAL = Kind(
    sentence="{count} images are copies of another one, the first is {where}",
    severity="warning",
    advice="keep one of them; `--fix` does",
)
NEAR = Kind(
    sentence="{count} images are nearly the same as another one, the first is {where}",
    advice="frames of one film or crops of one picture teach little; keep them in one split",
)
LEAK = Kind(
    sentence="{count} images of validation or test are also in training, the first is {where}",
    severity="error",
    advice="move or remove them: the validation would promise more than the model can",
)
SCENE_LEAK = Kind(
    sentence="{count} sequences have frames in several splits, the first is {where}",
    severity="warning",
    advice="split by scene: neighbouring frames are nearly the same picture",
)
NO_AREA = Kind(
    sentence="{count} boxes have no area, the first is {where}",
    severity="warning",
    advice="they are left out of training; `--fix` removes them",
)
BEYOND = Kind(
    sentence="{count} boxes reach more than two pixels beyond their image, the first is {where}",
    severity="warning",
    advice="are width and height read as corners? `--fix` clips them",
)
OUTSIDE = Kind(
    sentence="{count} boxes lie wholly outside their image, the first is {where}",
    severity="error",
    advice="the labels belong to other images, or to another size; `--fix` removes them",
)
TWICE = Kind(
    sentence="{count} objects are labelled twice, the first is {where}",
    severity="warning",
    advice="remove one of the two boxes; `--fix` does",
)
OTHER_OUTLINE = Kind(
    sentence="{count} outlines and boxes of one object differ, the first is {where}",
    severity="warning",
    advice="boxes come from the box, masks from the outline: make them agree; `--fix` takes the box of "
    "the outline",
)
CROWDED = Kind(
    sentence="{count} objects are regions of many (crowd, DontCare), the first is {where}",
    advice="nothing is learnt of them; exports of masks drawn by an assistant mark everything as crowd: "
    "set iscrowd to 0 there",
)
DIFFICULT = Kind(
    sentence="{count} objects are marked as difficult or occluded, the first is {where}",
    advice="they train like others and do not count in the VOC metric",
)
EMPTY_SOME = Kind(
    sentence="{count} images have no object, the first is {where}",
    advice="background images are useful, up to about a third of the set",
)
EMPTY_MANY = Kind(
    sentence="{count} images have no object, more than half of all; the first is {where}",
    severity="warning",
    advice="are labels missing? If not, most of every batch teaches background only",
)
RARE = Kind(
    sentence="class '{where}' has only {count} objects in training",
    severity="warning",
    advice="collect more, or merge it with a class that is alike",
    by_name=True,
)
CATEGORY_GAPS = Kind(
    sentence="the category ids of {where} leave out {count} numbers",
    advice="right as it is: num_classes = categories + 1 renumbers them; with the largest id + 1 every "
    "number that is left out is a class that nothing is",
    by_name=True,
)
NEAR_NAME = Kind(
    sentence="{where} look like one class, spelt differently",
    severity="warning",
    advice="map both to one name (target_class_mapping), or rename one",
    by_name=True,
)
NOT_TRAINED = Kind(
    sentence="class '{where}' has {count} objects in validation or test and none in training",
    severity="error",
    advice="its average precision can only be 0: split again, or leave the class out",
    by_name=True,
)
NOT_VALIDATED = Kind(
    sentence="class '{where}' has {count} objects in training and none in validation",
    severity="warning",
    advice="nothing will say how well it is learnt: split again",
    by_name=True,
)
NO_OBJECTS = Kind(
    sentence="no object is left to learn from in {where}",
    severity="error",
    advice="check class names, folders and the form of the labels",
)
STRETCHED = Kind(
    sentence="{count} objects are more than eight times as long as wide, the first is {where}",
    advice="add a ratio (width / height) to the anchors, 8 for wide objects, 0.125 for tall ones, or "
    "accept a lower recall of them",
)
CUT = Kind(
    sentence="{count} objects lie partly or wholly beyond the canvas, the first is {where}",
    severity="warning",
    advice="the canvas cuts the images: enlarge it, or scale the images to it (enable_auto_resize)",
)
BELOW_CELL = Kind(
    sentence="{count} objects are smaller than a cell of the finest map, the first is {where}",
    severity="warning",
    advice="enlarge the canvas, or cut the images into tiles (tile_size)",
)
UNREACHED = Kind(
    sentence="no anchor overlaps {count} objects by half on the canvas, the first is {where}",
    severity="warning",
    advice="fit the anchors: `rcnn-jax init` does, and training prints sizes that fit better",
)
SURPLUS = Kind(
    sentence="{count} images have more objects than the spec takes, the first is {where}",
    severity="warning",
    advice="raise max_objects_num_per_image (Faster R-CNN) or max_num_instances (Mask R-CNN)",
)
SMALL_PART = Kind(
    sentence="{count} objects are smaller than a fortieth of their image, the first is {where}",
    advice="on a canvas of 640 pixels they have 16: choose a large canvas, or tiles",
)
OTHER_CLASS = Kind(
    sentence="the model contradicts the class of {count} labels, the first is {where}",
    severity="warning",
    advice="look at them, most suspicious first: where the label is wrong, correct it",
)
ELSEWHERE = Kind(
    sentence="the model sees {count} objects beside their boxes, the first is {where}",
    severity="warning",
    advice="look at them: boxes that are shifted teach a wrong place",
)
UNLABELLED = Kind(
    sentence="the model finds {count} objects without a label, the first is {where}",
    severity="warning",
    advice="label them: an object without a label is taught as background",
)
NOTHING_THERE = Kind(
    sentence="the model finds nothing near {count} labels, the first is {where}",
    advice="most are objects that are hard to see; a few may be labels of nothing",
)

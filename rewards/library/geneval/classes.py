"""The 80 classes of COCO under the names that GenEval's prompts use, in COCO's order, and COCO's other spellings."""

from __future__ import annotations

GENEVAL_CLASSES: tuple[str, ...] = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light",
    "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow",
    "elephant", "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee",
    "skis", "snowboard", "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard",
    "tennis racket", "bottle", "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple",
    "sandwich", "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch",
    "potted plant", "bed", "dining table", "toilet", "tv", "laptop", "computer mouse", "tv remote",
    "computer keyboard", "cell phone", "microwave", "oven", "toaster", "sink", "refrigerator", "book", "clock",
    "vase", "scissors", "teddy bear", "hair drier", "toothbrush",
)  # fmt: skip

_ALIASES = {
    "motorbike": "motorcycle", "aeroplane": "airplane", "sofa": "couch", "pottedplant": "potted plant",
    "diningtable": "dining table", "tvmonitor": "tv", "television": "tv", "mouse": "computer mouse",
    "remote": "tv remote", "keyboard": "computer keyboard", "cellphone": "cell phone", "mobile phone": "cell phone",
    "doughnut": "donut", "hair dryer": "hair drier", "tennis racquet": "tennis racket",
}  # fmt: skip


def geneval_name(label: str) -> str:
    """GenEval's name of a COCO class, whatever the checkpoint calls it: ``tvmonitor`` -> ``tv``; others unchanged."""
    name = label.strip().lower().replace("_", " ")
    return _ALIASES.get(name, name)

"""The 80 classes of COCO under the names that GenEval's prompts use, in COCO's order, and COCO's other spellings."""

from __future__ import annotations

from rl.data.presets import coco

GENEVAL_CLASSES = coco.CLASSES

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

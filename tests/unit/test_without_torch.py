"""What serves an exported model needs numpy, PIL and numba alone."""

import subprocess
import sys


def test_what_serves_an_exported_model_loads_no_library_of_networks():
    tasks = {"detection.networks": ["letterbox", "anchors", "selection", "suppression", "support", "classes"]}
    tasks |= {"detection": ["served"], "classification": ["served", "show"]}
    tasks["classification.networks"] = ["classifier", "preprocessing"]
    names = [f"ebjr_det.tasks.{task}.{room}" for task, rooms in tasks.items() for room in rooms]
    code = f"""
import sys, numpy as np
from PIL import Image
import {", ".join(names)}
from ebjr_det.tasks.detection.networks.letterbox import Letterbox
from ebjr_det.tasks.detection.networks.suppression import Suppression
from ebjr_det.tasks.classification.networks.preprocessing import Preprocessing
image = Image.new("RGB", (40, 30))
one = Letterbox((128, 128), (0.5,) * 3)(image)
Suppression()(*np.zeros((3, 9, 4), np.float32), one.scale, one.size)
Preprocessing((0.5,) * 3, (0.5,) * 3, 20, 10)(image)
print(sorted({{"torch", "torchvision", "timm", "effdet"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

"""hloc's extractor by an exported gloam model, of global descriptors or of local features: copy to hloc/extractors/.

conf = {"output": "feats-gloam", "model": {"name": "gloam_model", "path": "model.onnx"}, "preprocessing": {}}
extract_features.main(conf, images, outputs, as_half=False)  # halves are a pixel apart beyond 1024 px
"""

import numpy as np
import torch

import gloam

from ..utils.base_model import BaseModel


class GloamModel(BaseModel):
    default_conf = {"path": None, "device": "cpu"}
    required_inputs = ["image"]

    def _init(self, conf):
        self.model = gloam.load(conf["path"], device=conf["device"])

    def _forward(self, data):
        # Without "resize_max" hloc hands over the file's own pixels in 255ths; the model resizes as its card says.
        image = (data["image"][0].permute(1, 2, 0).cpu().numpy() * 255).round().astype(np.uint8)
        found = self.model([image])[0]
        if isinstance(found, np.ndarray):
            return {"global_descriptor": torch.from_numpy(found)[None]}
        features = {
            "keypoints": found.keypoints - np.float32(found.origin),  # hloc's first pixel has its centre at 0
            "scores": found.scores,
            "descriptors": np.ascontiguousarray(found.descriptors.T),
        }
        return {name: torch.from_numpy(values)[None] for name, values in features.items()}

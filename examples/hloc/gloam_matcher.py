"""hloc's matcher by an exported gloam matcher, of the features that it is for: copy to hloc/matchers/.

conf = {"output": "matches-gloam", "model": {"name": "gloam_matcher", "path": "matcher.onnx"}}
"""

import torch

import gloam
from gloam.runtime.models.local_features import LocalFeatures

from ..utils.base_model import BaseModel


class GloamMatcher(BaseModel):
    default_conf = {"path": None, "device": "cpu"}
    required_inputs = [name + image for name in ("keypoints", "scores", "descriptors", "image_size") for image in "01"]

    def _init(self, conf):
        self.matcher = gloam.load(conf["path"], device=conf["device"])

    def _forward(self, data):
        rows, sure = self.matcher(self._features(data, "0"), self._features(data, "1"))
        matches = torch.full((1, data["keypoints0"].shape[1]), -1)
        scores = torch.zeros(matches.shape)
        matches[0, rows[:, 0].astype(int)] = torch.from_numpy(rows[:, 1].astype(int))
        scores[0, rows[:, 0].astype(int)] = torch.from_numpy(sure)
        return {"matches0": matches, "matching_scores0": scores}

    def _features(self, data, image):
        keypoints, scores, descriptors = (
            data[name + image][0].cpu().numpy() for name in ("keypoints", "scores", "descriptors")
        )
        size = tuple(int(side) for side in data["image_size" + image][0])  # hloc's keypoints count from 0, as gloam's
        return LocalFeatures(keypoints, scores, descriptors.T.copy(), size, name=self.matcher.takes.name)

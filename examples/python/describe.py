"""The whole caller: ``python describe.py MODEL.onnx IMAGE.jpg`` prints the image's descriptor."""

import sys

import gloam
from gloam.data.images import decode_image

print(gloam.load(sys.argv[1])([decode_image(sys.argv[2])])[0].tolist())

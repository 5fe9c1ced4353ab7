"""What an exported model says of itself: the card, its rules, and the self-tests."""

from gloam.model_card.card import KINDS, METADATA_KEY, PRECISIONS, SCHEMA, ModelCard
from gloam.model_card.feature_rule import KEYPOINT_OUTPUTS, FeatureRule, KeypointRule, matcher_inputs
from gloam.model_card.input_rule import LITERATURE, NATIVE, SMALLEST_SIDE, Decoding, InputRule, Photometric
from gloam.model_card.selftest import TOLERANCE, SelfTest
from gloam.model_card.space import expect_same_space, space_read_by
from gloam.model_card.tensor_spec import TensorSpec

__all__ = [
    "KEYPOINT_OUTPUTS",
    "KINDS",
    "LITERATURE",
    "METADATA_KEY",
    "NATIVE",
    "PRECISIONS",
    "SCHEMA",
    "SMALLEST_SIDE",
    "TOLERANCE",
    "Decoding",
    "FeatureRule",
    "InputRule",
    "KeypointRule",
    "ModelCard",
    "Photometric",
    "SelfTest",
    "TensorSpec",
    "expect_same_space",
    "matcher_inputs",
    "space_read_by",
]

import numpy as np
import pytest

from benchmarks.amos_retrieval import INPUT, NETWORK, SETS, WEIGHTS, camera, describe_with_torch, export, read_images
from gloam.eval.retrieval.ground_truth import read_ground_truth
from gloam.eval.retrieval.scores import evaluate
from gloam.model_card import Photometric
from gloam.networks.checkpoints import load_checkpoint
from gloam.runtime.models.embedder import Embedder


@pytest.fixture(scope="module")
def model_and_path(data_pack, tmp_path_factory):
    model = load_checkpoint(data_pack("weights") / WEIGHTS, NETWORK, padding="tf", **INPUT).model
    return model, export(model, tmp_path_factory.mktemp("amos") / "model.onnx")


@pytest.mark.slow
@pytest.mark.parametrize("photometric", [Photometric(), Photometric("clahe", clip=2.0)])
def test_the_exported_model_describes_photographs_as_torch_does(data_pack, model_and_path, photometric):
    model, path = model_and_path
    pack = data_pack("amos_daynight")
    images = read_images(pack, read_ground_truth(pack / "retrieval_gnd.json", "night2day").query_names[:3])
    assert images[0].shape == (320, 416, 3)
    exported = Embedder.load(path, photometric=photometric)(images)
    assert np.abs(exported - describe_with_torch(model, images, photometric)).max() < 1e-5


@pytest.mark.parametrize("name", SETS)
def test_cameras_as_descriptors_rank_perfectly(data_pack, name):
    """The ground truth's positives are exactly the images of the query's camera."""
    truth = read_ground_truth(data_pack("amos_daynight") / "retrieval_gnd.json", name)
    cameras = sorted({camera(image) for image in (*truth.map_names, *truth.query_names)})
    one_hot = np.eye(len(cameras), dtype=np.float32)

    def rows(names):
        return one_hot[[cameras.index(camera(image)) for image in names]]

    found = evaluate(truth.query_names, rows(truth.query_names), truth.map_names, rows(truth.map_names), truth)
    assert found.mAP == 1.0
    assert found.chance_mAP < 0.35
    assert found.queries > 100

"""The embedder of the service and the seed's helpers agree with the network and each other."""

import threading

import numpy as np
import pytest
import torch

import model
from model.checkpoint import build_model, load_checkpoint
from model.errors import UnreadableImage
from model.inference import DeviceUnavailable, choose_device, load_embedder
from model.preprocess import preprocess


@pytest.fixture(scope="module")
def images(corpus):
    return sorted((corpus / "full_org").glob("*.png"))


def test_embeddings_are_the_networks_own_whatever_the_batch(checkpoint_file, images):
    embedder = load_embedder(checkpoint_file, "cpu")
    inputs = [embedder.prepare(path.read_bytes()) for path in images[:5]]
    together = embedder.embed(inputs, exact=True)
    network = build_model(load_checkpoint(checkpoint_file))
    with torch.no_grad():
        expected = network.embed(torch.from_numpy(np.stack(inputs))).numpy()
    np.testing.assert_allclose(together, expected, atol=1e-6)
    np.testing.assert_allclose(embedder.embed(inputs[2:3], exact=True)[0], together[2], atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1.0, atol=1e-5)
    assert together.shape == (5, 512)


def test_threads_may_share_an_embedder(checkpoint_file, images):
    embedder = load_embedder(checkpoint_file, "cpu")
    inputs = [embedder.prepare(path.read_bytes()) for path in images[:4]]
    expected = [embedder.embed([one])[0] for one in inputs]
    found = [None] * 4

    def work(number):
        found[number] = embedder.embed([inputs[number]])[0]

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_the_seeds_helpers_work_as_the_seed_documents_them(checkpoint_file, images):
    network, threshold, size = model.load_model_for_infer(checkpoint_file, "cpu")
    result = model.compare_images(network, threshold, images[0], str(images[1]), size, "cpu")
    assert result.keys() == {"distance", "threshold", "pred"}
    assert result["pred"] == int(result["distance"] < threshold)
    assert 0.0 < result["distance"] <= 2.0
    same = model.compare_images(network, threshold, images[0], images[0], size)
    assert (same["distance"], same["pred"]) == (0.0, 1)


def test_compare_feeds_the_network_what_it_was_trained_on(checkpoint_file, images):
    network, threshold, size = model.load_model_for_infer(checkpoint_file)
    how = load_checkpoint(checkpoint_file).preprocessing
    pair = [torch.from_numpy(preprocess(p.read_bytes(), how))[None] for p in images[:2]]
    with torch.no_grad():
        expected = network(*pair)[0].item()
    found = model.compare_images(network, threshold, *images[:2], size)["distance"]
    assert found == pytest.approx(expected, abs=1e-6)


def test_an_unreadable_image_is_an_error_not_a_verdict(checkpoint_file, images, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    network, threshold, size = model.load_model_for_infer(checkpoint_file)
    with pytest.raises(UnreadableImage):
        model.compare_images(network, threshold, images[0], broken, size)


def test_an_absent_or_nonsensical_device_is_refused():
    with pytest.raises(DeviceUnavailable, match="is no device"):
        choose_device("quantum")
    if not torch.cuda.is_available():
        with pytest.raises(DeviceUnavailable, match="no CUDA device"):
            choose_device("cuda")
    assert choose_device("cpu").type == "cpu"

"""Data sets fit the model, are standardised and repeatable."""

import pytest
import torch
from sklearn.datasets import load_digits

from alrsim.datasets import DATASETS, default_dataset, digits, load_samples
from alrsim.errors import OptionError
from alrsim.models import ZOO, build


def test_digits_are_standardised_over_the_whole_set() -> None:
    images, labels = digits(1797)
    assert images.shape == (1797, 1, 8, 8)
    assert abs(images.double().mean().item()) < 1e-6
    assert abs(images.double().std(correction=0).item() - 1) < 1e-6
    assert torch.bincount(labels).tolist() == torch.bincount(torch.from_numpy(load_digits().target)).tolist()


def test_a_digit_is_scikit_learns_pixels_with_its_own_label() -> None:
    data = load_digits()
    images, labels = digits(50, seed=4)
    for image, label in zip(images, labels, strict=True):
        pixels = image[0].double() * data.images.std() + data.images.mean()
        found = abs(data.images - pixels.numpy()).max(axis=(1, 2)) < 1e-4
        assert data.target[found].tolist() == [label]


def test_a_larger_image_is_the_same_digit_resized_and_repeated_over_channels() -> None:
    small, labels = digits(4, seed=1)
    large, same = digits(4, image_size=32, channels=3, seed=1)
    assert large.shape == (4, 3, 32, 32)
    assert torch.equal(labels, same)
    assert torch.equal(large[:, 0], large[:, 2])
    # bilinear enlargement by 4 hits the pixel grid half-way between its samples
    interior = torch.nn.functional.avg_pool2d(large[:, :1], 4)
    assert torch.corrcoef(torch.stack([interior.flatten(), small.flatten()]))[0, 1] > 0.95


def test_the_order_depends_on_the_seed_only_and_a_huge_batch_starts_again() -> None:
    assert torch.equal(digits(8, seed=2)[0], digits(8, seed=2)[0])
    assert not torch.equal(digits(8, seed=2)[0], digits(8, seed=3)[0])
    assert torch.equal(digits(8, seed=2)[0], digits(16, seed=2)[0][:8])
    assert torch.bincount(digits(2 * 1797)[1]).tolist() == [2 * n for n in torch.bincount(digits(1797)[1]).tolist()]


@pytest.mark.parametrize("name", ZOO)
@pytest.mark.parametrize("dataset", [name for name, entry in DATASETS.items() if entry.one_batch])
def test_every_data_set_fits_the_model_or_says_why_not(name: str, dataset: str) -> None:
    model = build(name, **({"nodes": 5} if name in ("gat", "gcn") else {}))
    before = torch.get_rng_state()
    if dataset == "digits" and name in ("lstm", "gru", "rnn", "gat", "gcn"):
        with pytest.raises(OptionError, match="digits are square images"):
            load_samples(dataset, model, 3)
        assert default_dataset(model) == "random"
        return
    samples = load_samples(dataset, model, 3, seed=1)
    assert [value.shape for value in samples.inputs] == [value.shape for value in model.example(3)]
    assert [value.dtype for value in samples.inputs] == [value.dtype for value in model.example(3)]
    loss = torch.nn.functional.cross_entropy(model.module(*samples.inputs), samples.labels)
    assert torch.isfinite(loss)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("name", "options", "dataset", "batch", "message"),
    [
        ("mlp", {}, "cifar", 3, "there is no data set 'cifar'"),
        ("mlp", {}, "digits", 0, "a batch of 0 samples is empty"),
        ("mlp", {"features": 60}, "digits", 3, "digits are square images, mlp takes (60,) float32"),
        ("mlp", {"classes": 3}, "digits", 3, "digits have 10 classes, mlp has 3"),
    ],
)
def test_data_that_do_not_fit_are_refused(
    name: str, options: dict[str, int], dataset: str, batch: int, message: str
) -> None:
    with pytest.raises(OptionError) as error:
        load_samples(dataset, build(name, **options), batch)
    assert message in str(error.value)
    assert "try: " in str(error.value)


@pytest.mark.parametrize("sizes", [(0, 8, 1), (1, 0, 1), (1, 8, -1)])
def test_sizes_must_be_positive(sizes: tuple[int, int, int]) -> None:
    with pytest.raises(OptionError, match="must be at least 1"):
        digits(*sizes)

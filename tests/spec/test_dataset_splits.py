"""Splits: what is in which part, in which order batches come, and what a model must look like."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from torch import nn

from alrsim.datasets import (
    DATASETS,
    Samples,
    Splits,
    batches,
    chunks,
    epoch_of,
    load_samples,
    load_splits,
    train_batch,
    with_graph_of,
)
from alrsim.datasets.synthetic_graph import agreement, potts
from alrsim.errors import OptionError
from alrsim.frontend.torch_model import TorchModel
from alrsim.models import build
from alrsim.models.graphnets import random_graph


def counted(count: int) -> Splits:
    """Samples that are their own numbers; preparing them negates them."""
    numbers = torch.arange(count)
    part = Samples((numbers,), numbers % 2)
    return Splits("counted", part, part, 2, "", lambda samples: Samples((-samples.inputs[0],), samples.labels))


def rows(samples: Samples) -> list[int]:
    return [-int(value) for value in samples.inputs[0]]


def test_the_digits_are_1400_and_397_images_that_share_none() -> None:
    splits = load_splits("digits", build("mlp"))
    assert (len(splits.train), len(splits.test)) == (1400, 397)
    assert splits.train.inputs[0].mean().abs() < 1e-5
    assert (splits.train.inputs[0].std(correction=0) - 1).abs() < 1e-5
    pixels = load_digits().data
    mean, deviation = scale(splits.train.inputs[0], pixels)
    both = torch.cat([splits.train.inputs[0], splits.test.inputs[0]]).double() * deviation + mean
    assert sorted(map(tuple, both.round().int().tolist())) == sorted(map(tuple, pixels.astype(int).tolist()))
    assert splits.test.inputs[0].std() != pytest.approx(1, abs=1e-4)  # statistics are those of the training images


def scale(standard: torch.Tensor, pixels: "np.ndarray") -> tuple[float, float]:
    """Mean and deviation that were taken off, from the extremes: pixels go from 0 to 16."""
    low, high = standard.min().item(), standard.max().item()
    assert (pixels.min(), pixels.max()) == (0, 16)
    deviation = 16 / (high - low)
    return -low * deviation, deviation


def test_the_split_of_the_digits_is_the_same_for_every_seed_and_every_class_is_in_both_parts() -> None:
    model = build("resnet5", image_size=16)
    one, other = (load_splits("digits", model, seed=seed) for seed in (0, 7))
    assert torch.equal(one.test.inputs[0], other.test.inputs[0])
    assert one.test.inputs[0].shape == (397, 3, 16, 16)
    assert torch.bincount(one.test.labels).min() >= 25
    assert torch.bincount(one.train.labels).min() >= 125


@given(count=st.integers(1, 12), batch=st.integers(1, 30), seed=st.integers(0, 3))
@settings(max_examples=40, derandomize=True, deadline=None)
def test_batches_one_after_the_other_are_permutations_of_all_samples(count: int, batch: int, seed: int) -> None:
    splits = counted(count)
    sequence = list(
        itertools.chain.from_iterable(rows(train_batch(splits, batch, step, seed)) for step in range(2 * count))
    )
    assert len(sequence) == 2 * count * batch
    for start in range(0, len(sequence), count):
        assert sorted(sequence[start : start + count]) == list(range(count))


def test_a_batch_of_many_epochs_takes_time_for_its_samples_and_not_for_their_pairs() -> None:
    found = rows(train_batch(counted(10), 1_000_000, 0))
    assert [found.count(sample) for sample in range(10)] == [100_000] * 10


def test_a_resumed_run_sees_the_batches_that_it_would_have_seen() -> None:
    splits = counted(10)
    whole = [rows(samples) for samples in itertools.islice(batches(splits, 4, seed=5), 8)]
    resumed = [rows(samples) for samples in itertools.islice(batches(splits, 4, start=3, seed=5), 5)]
    assert whole[3:] == resumed
    assert epoch_of(splits, 4, 5) == 2.0


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    splits = counted(20)
    orders = [rows(train_batch(splits, 20, step, seed)) for step in range(3) for seed in range(3)]
    assert len(set(map(tuple, orders))) == 9


def test_chunks_give_every_sample_once_prepared_and_in_order() -> None:
    splits = counted(7)
    parts = list(chunks(splits.test, 3, splits.prepare))
    assert [rows(part) for part in parts] == [[0, 1, 2], [3, 4, 5], [6]]
    assert torch.cat([part.labels for part in parts]).tolist() == [0, 1, 0, 1, 0, 1, 0]


@pytest.mark.parametrize(("batch", "step", "seed"), [(0, 0, 0), (1, -1, 0), (1, 0, -1)])
def test_a_batch_out_of_range_is_refused(batch: int, step: int, seed: int) -> None:
    with pytest.raises(OptionError, match="use at least"):
        train_batch(counted(3), batch, step, seed)


def test_an_order_of_batches_never_touches_the_global_random_state() -> None:
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()  # type: ignore[index, union-attr]
    for name, model in (("synthetic-text", text_model()), ("synthetic-graph", graph_model())):
        splits = load_splits(name, model, seed=3)
        train_batch(splits, 4, 2, 3)
    assert torch.equal(torch.get_rng_state(), before)
    assert (np.random.get_state()[1] == numpy_before).all()  # type: ignore[index]


def text_model(**options: int) -> TorchModel:
    return build("rnn", **{"embedding": 4, "hidden": 8, "sequence": 9, "vocabulary": 12, "classes": 3, **options})


def graph_model(kind: str = "gcn", **options: int) -> TorchModel:
    return build(kind, **{"nodes": 20, "features": 6, "classes": 3, "hidden": 4, **options})


@pytest.mark.parametrize("name", ["synthetic-text", "synthetic-graph", "random"])
def test_synthetic_data_are_a_function_of_the_seed_and_parts_share_no_sample(name: str) -> None:
    model = text_model() if name == "synthetic-text" else graph_model()
    one, same, other = (load_splits(name, model, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(one.train.inputs[0], same.train.inputs[0])
    assert torch.equal(one.test.labels, same.test.labels)
    assert not torch.equal(one.train.labels, other.train.labels)
    if name != "synthetic-text":  # short texts may be drawn twice
        train = {tuple(row) for row in one.train.inputs[0].flatten(1).tolist()}
        assert not any(tuple(row) in train for row in one.test.inputs[0].flatten(1).tolist())
    loss = nn.functional.cross_entropy(model.module(*one.test.inputs), one.test.labels)
    assert torch.isfinite(loss)


def test_the_label_of_a_synthetic_text_is_the_first_of_its_two_markers() -> None:
    splits = load_splits("synthetic-text", text_model(), seed=4)
    for tokens, label in zip(splits.train.inputs[0].tolist(), splits.train.labels.tolist(), strict=True):
        markers = [token for token in tokens if token < 3]
        assert len(set(markers)) == len(markers) == 2
        assert markers[0] == label
        assert max(tokens) < 12


def test_both_orders_of_a_pair_of_markers_are_equally_likely() -> None:
    splits = load_splits("synthetic-text", text_model(), seed=4)
    seen = [tuple(token for token in tokens if token < 3) for tokens in splits.train.inputs[0].tolist()]
    counts = np.array([seen.count(pair) for pair in itertools.permutations(range(3), 2)])
    expected = len(seen) / 6
    assert abs(counts - expected).max() < 5 * np.sqrt(expected)  # five standard deviations of a count


def test_neighbours_share_classes_far_more_often_than_by_chance_and_no_class_takes_all() -> None:
    adjacency = random_graph(60, 0)
    labels = torch.from_numpy(potts(adjacency.numpy(), 4, 16, np.random.default_rng(0)))
    shares = nn.functional.one_hot(labels, 4).double().mean(dim=(0, 1))
    assert agreement(adjacency, labels) > 2 * (shares**2).sum()
    assert shares.max() < 0.5


def test_features_of_a_class_point_one_way_and_noise_has_the_stated_size() -> None:
    splits = load_splits("synthetic-graph", graph_model(nodes=60), seed=0)
    features, labels = splits.train.inputs[0].double(), splits.train.labels
    scaling = (1 + 2.75**2 / 6) ** 0.5
    means = torch.stack([features[labels == label].mean(dim=0) for label in range(3)]) * scaling
    torch.testing.assert_close(means @ means.T, 2.75**2 * torch.eye(3, dtype=torch.float64), atol=0.3, rtol=0)
    noise = (features - (means / scaling)[labels]) * scaling
    assert abs(noise.std().item() - 1) < 0.02


@pytest.mark.parametrize("kind", ["gcn", "gat"])
def test_a_model_on_another_graph_computes_what_a_model_built_on_it_computes(kind: str) -> None:
    first, second = graph_model(kind, seed=0), graph_model(kind, seed=1)
    second.module.load_state_dict({**second.module.state_dict(), **dict(first.module.named_parameters())})
    inputs = first.example(2)
    assert not torch.equal(first.module(*inputs), second.module(*inputs))
    first.module.set_adjacency(second.module.adjacency)  # type: ignore[operator]
    assert torch.equal(first.module(*inputs), second.module(*inputs))


def test_data_without_a_graph_leave_the_model_alone() -> None:
    model = graph_model()
    assert with_graph_of("synthetic-graph", model) is model


@pytest.mark.parametrize(
    ("data", "model", "message"),
    [
        ("synthetic-text", build("mlp"), "try: use a model for texts, for example lstm"),
        ("synthetic-text", text_model(vocabulary=3), "try: build it with option=vocabulary=4"),
        ("synthetic-text", text_model(sequence=1), "option=sequence=16"),
        ("synthetic-graph", build("mlp"), "try: use a model for graphs: gcn or gat"),
        ("digits", text_model(), "digits are square images"),
        ("cifar10", build("mlp", features=3072, classes=4), "try: build the model with option=classes=10"),
        ("cifar10", build("mlp"), "try: build it with option=features=3072"),
        ("cifar10", build("resnet5", in_channels=1), "try: build it with option=in_channels=3"),
        ("cifar10", text_model(classes=10), "try: use a model for images"),
        ("fashion-mnist", build("mlp", features=60), "try: build it with option=features=784"),
        ("ag-news", build("mlp"), "try: use a model for texts"),
        ("ag-news", text_model(), "try: build the model with option=classes=4"),
    ],
)
def test_a_model_that_does_not_fit_is_refused_with_the_option_that_makes_it_fit(
    data: str, model: TorchModel, message: str, tmp_path: Path
) -> None:
    folder = tmp_path if DATASETS[data].needs_folder else None
    with pytest.raises(OptionError) as error:
        load_splits(data, model, folder=folder)
    assert message in str(error.value)


def test_a_folder_is_asked_for_where_it_is_needed_and_refused_where_it_is_not(tmp_path: Path) -> None:
    for entry in DATASETS.values():
        if entry.needs_folder:
            assert entry.layout is not None
            assert entry.layout.files
    with pytest.raises(OptionError, match="cifar10 is read from a folder, and none was given"):
        load_samples("cifar10", build("resnet5"), 2)
    with pytest.raises(OptionError, match="digits is read from no folder"):
        load_splits("digits", build("mlp"), folder=tmp_path)
    with pytest.raises(OptionError, match="there is no data set 'imagenet'"):
        load_splits("imagenet", build("mlp"))

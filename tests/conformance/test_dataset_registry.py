"""Every data set of the registry says what it is; those that need no files keep the contract of splits."""

import pytest
import torch
from torch import Tensor, nn

from alrsim.datasets import DATASETS, chunks, load_samples, load_splits, train_batch
from alrsim.frontend.torch_model import TorchModel
from alrsim.models import build

MODELS = {
    "digits": ("mlp", {}),
    "random": ("resnet5", {"image_size": 8}),
    "synthetic-text": ("gru", {"sequence": 6, "vocabulary": 12, "embedding": 8, "hidden": 16}),
    "synthetic-graph": ("gcn", {"nodes": 32, "features": 16, "classes": 4}),
}
BUILT_IN = [name for name, entry in DATASETS.items() if not entry.needs_folder]
STEPS = {"digits": 150, "synthetic-text": 400, "synthetic-graph": 100}


def fitting(name: str) -> TorchModel:
    kind, options = MODELS[name]
    return build(kind, **options)


@pytest.mark.parametrize("name", DATASETS)
def test_an_entry_says_what_it_is_where_it_comes_from_and_which_files_it_needs(name: str) -> None:
    entry = DATASETS[name]
    assert entry.name == name
    assert entry.description
    assert entry.source
    assert entry.needs_folder == (entry.layout is not None)
    assert entry.layout is None or entry.layout.dataset == name


@pytest.mark.parametrize("name", BUILT_IN)
def test_splits_hold_inputs_and_labels_as_the_model_takes_them(name: str) -> None:
    model = fitting(name)
    splits = load_splits(name, model, seed=2)
    assert splits.name == name
    assert splits.classes <= model.classes
    assert str(len(splits.train)) in splits.description
    for part in (splits.train, splits.test):
        ready = splits.prepare(part)
        assert [value.dtype for value in ready.inputs] == [value.dtype for value in model.example(1)]
        assert [value.shape[1:] for value in ready.inputs] == [value.shape[1:] for value in model.example(1)]
        assert all(len(value) == len(part.labels) == len(part) for value in part.inputs)
        assert part.labels.dtype == torch.int64
        assert part.labels.min() >= 0
        assert part.labels.max() < splits.classes


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_training_batch_and_a_single_batch_are_functions_of_their_arguments(name: str) -> None:
    model = fitting(name)
    splits, again = load_splits(name, model, seed=2), load_splits(name, model, seed=2)

    def same(first: tuple[Tensor, ...], second: tuple[Tensor, ...]) -> bool:
        return all(torch.equal(one, other) for one, other in zip(first, second, strict=True))

    one, other = train_batch(splits, 6, 3, seed=1), train_batch(again, 6, 3, seed=1)
    assert same((*one.inputs, one.labels), (*other.inputs, other.labels))
    one, other = load_samples(name, model, 6, 1), load_samples(name, model, 6, 1)
    assert len(one) == 6
    assert same((*one.inputs, one.labels), (*other.inputs, other.labels))


@pytest.mark.parametrize("name", STEPS)
def test_what_can_be_learnt_is_learnt_by_backpropagation_on_unseen_samples(name: str) -> None:
    model = fitting(name)
    splits = load_splits(name, model)
    optimizer = torch.optim.Adam(model.module.parameters(), 5e-3)
    for step in range(STEPS[name]):
        batch = train_batch(splits, min(50, len(splits.train) // 8), step)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model.module(*batch.inputs), batch.labels).backward()
        optimizer.step()
    with torch.no_grad():
        right = [
            model.module(*part.inputs).argmax(1) == part.labels for part in chunks(splits.test, 100, splits.prepare)
        ]
    assert torch.cat(right).float().mean() > 0.9

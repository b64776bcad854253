"""AG-News from its CSV files, as token numbers.

Zhang, Zhao and LeCun 2015, arXiv:1509.01626: rows of class (1 to 4), title and description, all in double quotes, an
inner quote doubled, a line break written as a backslash and ``n``.
"""

import csv
import io
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import torch

from alrsim.datasets.folders import Layout, corrupt, read_text, root_with
from alrsim.datasets.matching import require_classes, token_shape
from alrsim.datasets.samples import Samples, Splits
from alrsim.frontend.torch_model import TorchModel

CLASSES = 4
PADDING, UNKNOWN, FIRST_WORD = 0, 1, 2
LAYOUT = Layout("ag-news", "AG-News (ag_news_csv)", "train.csv and test.csv", ("ag_news_csv",))

Row = tuple[int, list[str]]
"""Class from 0, and words."""


def load_ag_news(model: TorchModel, folder: Path | None, _seed: int) -> Splits:
    """All texts, cut to the model's sequence length, numbered by the model's vocabulary; the official split.

    Token 0 is padding, 1 an unknown word; the others are the commonest words of the training part, ties in alphabetical
    order. A long text keeps its beginning. A short one is padded **in front**, because the zoo's text models read
    their answer from the last position.

    Raises:
        OptionError: no folder, or a model that the texts do not fit.
        FileError: a file is missing, damaged or not what it should be.
    """
    require_classes(LAYOUT.dataset, model, CLASSES)
    length, size = token_shape(LAYOUT.dataset, model, FIRST_WORD + 1)
    rows = _rows(folder, "train.csv")
    numbers, known = vocabulary((words for _, words in rows), size)
    train, test = (_samples(part, numbers, length) for part in (rows, _rows(folder, "test.csv")))
    return Splits(
        LAYOUT.dataset,
        train,
        test,
        CLASSES,
        f"{len(train)} training and {len(test)} test texts of {length} tokens, the official split; the {len(numbers)} "
        f"commonest words are {known:.1%} of the training text",
    )


def tokens(text: str) -> list[str]:
    """Lower-case words and numbers; an apostrophe inside a word stays (``#39;`` is one in these files)."""
    plain = text.replace("\\n", " ").replace("#39;", "'").replace("\\", " ").lower()
    return re.findall(r"[a-z0-9]+(?:'[a-z]+)?", plain)


def vocabulary(texts: Iterable[list[str]], size: int) -> tuple[dict[str, int], float]:
    """Number of each of the ``size - 2`` commonest words, and the share of all words that they are."""
    counts = Counter(word for words in texts for word in words)
    chosen = sorted(counts, key=lambda word: (-counts[word], word))[: size - FIRST_WORD]
    share = sum(counts[word] for word in chosen) / max(1, counts.total())
    return {word: index for index, word in enumerate(chosen, start=FIRST_WORD)}, share


def _samples(rows: list[Row], numbers: dict[str, int], length: int) -> Samples:
    table = torch.full((len(rows), length), PADDING)
    for index, (_, words) in enumerate(rows):
        kept = [numbers.get(word, UNKNOWN) for word in words[:length]]
        if kept:
            table[index, -len(kept) :] = torch.tensor(kept)
    return Samples((table,), torch.tensor([label for label, _ in rows]))


def _rows(folder: Path | None, name: str) -> list[Row]:
    root, mark = root_with(folder, LAYOUT, name)
    path = root / mark
    reader = csv.reader(io.StringIO(read_text(path, LAYOUT), newline=""), strict=True)
    rows: list[Row] = []
    try:
        for fields in reader:
            if len(fields) != 3 or fields[0] not in ("1", "2", "3", "4"):
                raise corrupt(path, LAYOUT, f"line {reader.line_num} is not a class from 1 to 4, title and description")
            rows.append((int(fields[0]) - 1, tokens(f"{fields[1]} {fields[2]}")))
    except csv.Error as error:
        raise corrupt(path, LAYOUT, f"line {reader.line_num}: {error}") from None
    if not rows:
        raise corrupt(path, LAYOUT, "holds no text")
    return rows

"""The verbs of the command line."""

from alrsim.cli.entry import Entry, Given, Section

MODEL = Given(
    "model",
    "MODEL",
    "A zoo name (resnet5, mlp, lstm...), a factory (file.py:make or package.module:make), an .onnx file, or a graph "
    "file written by `alrsim graph -o`.",
    known="alrsim.cli.known:models",
)
TORCH_MODEL = Given(
    "model",
    "MODEL",
    "A torch model: a zoo name (resnet5, mlp, lstm...) or a factory (file.py:make or package.module:make).",
    known="alrsim.cli.known:models",
)
HARDWARE = Given(
    "hardware",
    "P",
    "Hardware profile: a name (see `alrsim hardware list`) or a file.",
    ("--hardware",),
    known="alrsim.cli.known:machines",
)

VERBS: tuple[Entry | Section, ...] = (
    Entry(
        "compare",
        "Compare methods on a model and a machine: time, every named bubble, memory; with --measure also for real.",
        "alrsim.study.comparison:compare",
        (MODEL, HARDWARE),
        out=True,
    ),
    Entry(
        "figure2",
        "Draw the paper's Figure 2: steps, every idle share by name, and speed-up beside the paper's numbers.",
        "alrsim.study.paper_figure:figure2",
        out=True,
    ),
)

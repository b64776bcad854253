"""The verbs of the command line."""

from alrsim.cli.entry import Entry, Given, Saving, Section

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

PROFILE = Given("profile", "PROFILE", "A name, or a .yaml file.", known="alrsim.cli.known:machines")

VERBS: tuple[Entry | Section, ...] = (
    Entry(
        "compare",
        "Compare methods on a model and a machine: time, every named bubble, memory; with --measure also for real.",
        "alrsim.study.comparison:compare",
        (MODEL, HARDWARE),
        out=True,
    ),
    Entry(
        "demo",
        "ResNet-5 on handwritten digits, 2 units: calibrate this host, predict BP, LR and ALR, run them, compare.",
        "alrsim.study.demonstration:demo",
        out="out",
    ),
    Entry(
        "graph",
        "Load a model as an operator graph and count what every operator does, for the whole batch.",
        "alrsim.study.inspection:graph",
        (MODEL,),
        saving=Saving("Write the graph to a file, which stands for the model in other verbs."),
    ),
    Entry(
        "stages",
        "Cut a model into stages. Counts are for one micro-batch and one copy.",
        "alrsim.study.inspection:stages",
        (MODEL,),
        saving=Saving("Write the stages to a file."),
    ),
    Entry(
        "export",
        "Export a zoo model or a factory's model to ONNX, unoptimised and in training mode.",
        "alrsim.study.inspection:export",
        (TORCH_MODEL, Given("path", "FILE", "The .onnx file to write.", ("--output", "-o"), target=True)),
    ),
    Section(
        "hardware",
        "The machines that profiles describe.",
        (
            Entry("list", "List the shipped profiles.", "alrsim.study.machines:machines"),
            Entry(
                "show",
                "Show every figure of a profile with its source and how far it can be trusted.",
                "alrsim.study.machines:show_machine",
                (PROFILE,),
            ),
            Entry(
                "validate",
                "Say everything that is wrong with, or doubtful about, a profile; errors exit 1.",
                "alrsim.study.machines:review_machine",
                (PROFILE,),
            ),
        ),
    ),
    Entry(
        "figure2",
        "Draw the paper's Figure 2: steps, every idle share by name, and speed-up beside the paper's numbers.",
        "alrsim.study.paper_figure:figure2",
        out=True,
    ),
)

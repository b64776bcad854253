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

SCHEDULE_AND_MODEL = Given(
    "what",
    "[SCHEDULE] [MODEL]",
    "A schedule file (.json of alrsim, .csv of PyTorch) and/or a model, as of `alrsim compare`.",
    known="alrsim.cli.known:models",
)
TIMELINE = Saving("Write the timeline to a file.")

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
    Entry(
        "schedule",
        "Place and order the tasks of a step.",
        "alrsim.study.stepping:schedule",
        (MODEL, HARDWARE),
        saving=Saving("Write the schedule: .json is alrsim's own form, .csv PyTorch's.", (".json", ".csv")),
    ),
    Entry(
        "simulate",
        "Simulate a schedule file or a method, on a model or on durations.",
        "alrsim.study.stepping:simulate",
        (SCHEDULE_AND_MODEL, HARDWARE),
        out=True,
        saving=TIMELINE,
    ),
    Entry(
        "explain",
        "Explain a schedule: critical path, slack per task, idle time by reason; --unit U --at T about one moment.",
        "alrsim.study.explaining:explain",
        (SCHEDULE_AND_MODEL, HARDWARE),
        out=True,
    ),
    Entry(
        "execute",
        "Run a schedule on this host, one worker per unit; the timeline is that of the median repeat.",
        "alrsim.study.stepping:execute",
        (TORCH_MODEL, HARDWARE),
        out=True,
        saving=TIMELINE,
    ),
    Entry(
        "calibrate",
        "Measure kernels, links, overhead and a model's tasks here; write them as a hardware profile.",
        "alrsim.study.calibration:calibrate",
        (TORCH_MODEL,),
        saving=Saving("The profile to write; predict with it by --hardware FILE.yaml.", (".yaml",), required=True),
    ),
    Entry(
        "plan",
        "The best plan for a model on a machine, with a lower bound over the whole decision space and the gap.",
        "alrsim.planner.planning:plan",
        (
            Given("model", "[MODEL]", "A model, as in `alrsim compare`; without one: --durations.", known=MODEL.known),
            HARDWARE,
        ),
        saving=Saving("Write the plan's schedule to a file for later verbs.", (".json", ".csv")),
    ),
    Entry(
        "gradcheck",
        "How close estimated gradients come to the true one, and what a copy buys.",
        "alrsim.quality.gradcheck:gradcheck",
        (TORCH_MODEL,),
        out=True,
        saving=Saving("Write the estimators that --suggest found, one per stage, for --estimators."),
    ),
    Entry(
        "train",
        "Train a model with any estimator, in sequence or on a schedule, and go on after a kill.",
        "alrsim.training.verb:train",
        (TORCH_MODEL,),
    ),
    Entry(
        "trajectory",
        "BP, LR and ALR on Beale's function, as in the ALR paper's Figure 6.",
        "alrsim.quality.trajectory:trajectory",
        out=True,
    ),
    Entry(
        "sweep",
        "Evaluate every configuration of SPEC with `compare` or `plan`; what is recorded is not evaluated again.",
        "alrsim.study.sweeping:sweep",
        (Given("what", "SPEC.yaml", "verb, fixed, grid, ranges, sample, quality; see the manual."),),
        out=True,
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
        "gradcheck",
        "Cosine of estimated with true gradients over the number of copies, per layer; the papers' Acc and Sta; the "
        "effective noise dimension rho of every layer.",
        "alrsim.quality.gradcheck:gradcheck",
        (TORCH_MODEL,),
        out=True,
        saving=Saving("Write the estimators that --suggest found, for --estimators.", needs="suggest"),
    ),
    Entry(
        "trajectory",
        "Minimise Beale's function from (-3, 2) by BP, LR and ALR, and say honestly where each of them ends.",
        "alrsim.quality.trajectory:trajectory",
        out=True,
    ),
    Entry(
        "validate",
        "Predict a grid of training steps, run them for real, and score the predictions.",
        "alrsim.validation.validating:validate",
    ),
    Entry(
        "replay",
        "Predict recorded runs with this version of the program, with the error beside that at record time.",
        "alrsim.validation.replaying:replay",
        (Given("traces", "TRACE...", "Files that a validation recorded, or folders of them."),),
    ),
    Entry(
        "reproduce",
        "What the papers claim, measured here, with verdicts.",
        "alrsim.experiments.reproducing:reproduce",
    ),
    Entry(
        "figure2",
        "Draw the paper's Figure 2: steps, every idle share by name, and speed-up beside the paper's numbers.",
        "alrsim.study.paper_figure:figure2",
        out=True,
    ),
)

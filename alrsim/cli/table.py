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
        "Methods side by side: time, bubbles, memory; also measured.",
        "alrsim.study.comparison:compare",
        (MODEL, HARDWARE),
        out=True,
    ),
    Entry(
        "demo",
        "The main job with nothing to choose: BP against LR and ALR.",
        "alrsim.study.demonstration:demo",
        out="out",
    ),
    Entry(
        "graph",
        "A model's operators, and what each of them costs.",
        "alrsim.study.inspection:graph",
        (MODEL,),
        saving=Saving("Write the graph to a file, which stands for the model in other verbs."),
    ),
    Entry(
        "stages",
        "A model cut into stages.",
        "alrsim.study.inspection:stages",
        (MODEL,),
        saving=Saving("Write the stages to a file."),
    ),
    Entry(
        "export",
        "A torch model as an ONNX file.",
        "alrsim.study.inspection:export",
        (TORCH_MODEL, Given("path", "FILE", "The .onnx file to write.", ("--output", "-o"), target=True)),
    ),
    Entry(
        "schedule",
        "Which unit runs which tasks in which order.",
        "alrsim.study.stepping:schedule",
        (MODEL, HARDWARE),
        saving=Saving("Write the schedule: .json is alrsim's own form, .csv PyTorch's.", (".json", ".csv")),
    ),
    Entry(
        "simulate",
        "A schedule file or a method in simulated time.",
        "alrsim.study.stepping:simulate",
        (SCHEDULE_AND_MODEL, HARDWARE),
        out=True,
        saving=TIMELINE,
    ),
    Entry(
        "explain",
        "Why a schedule takes as long as it does, and why units wait.",
        "alrsim.study.explaining:explain",
        (SCHEDULE_AND_MODEL, HARDWARE),
        out=True,
    ),
    Entry(
        "execute",
        "A schedule for real, on this host.",
        "alrsim.study.stepping:execute",
        (TORCH_MODEL, HARDWARE),
        out=True,
        saving=TIMELINE,
    ),
    Entry(
        "calibrate",
        "What tasks take on this host, as a hardware profile.",
        "alrsim.study.calibration:calibrate",
        (TORCH_MODEL,),
        saving=Saving("The profile to write; predict with it by --hardware FILE.yaml.", (".yaml",), required=True),
    ),
    Entry(
        "plan",
        "The best plan for a model on a machine, with its gap.",
        "alrsim.planner.planning:plan",
        (
            Given("model", "MODEL", "A model, as in `alrsim compare`; without one: --durations.", known=MODEL.known),
            HARDWARE,
        ),
        saving=Saving("Write the plan's schedule to a file for later verbs.", (".json", ".csv")),
    ),
    Entry(
        "gradcheck",
        "How close estimated gradients come to the true one.",
        "alrsim.quality.gradcheck:gradcheck",
        (TORCH_MODEL,),
        out=True,
        saving=Saving("Write the estimators that --suggest found, one per stage, for --estimators.", needs="suggest"),
    ),
    Entry(
        "train",
        "A model trained by any estimator; goes on after a kill.",
        "alrsim.training.verb:train",
        (TORCH_MODEL,),
        files=("checkpoint",),
        without=("update_model",),
    ),
    Entry(
        "trajectory",
        "BP, LR and ALR on Beale's function, as in the ALR paper.",
        "alrsim.quality.trajectory:trajectory",
        out=True,
    ),
    Entry(
        "sweep",
        "Many configurations of compare or plan, and their Pareto front.",
        "alrsim.study.sweeping:sweep",
        (Given("what", "SPEC.yaml", "verb, fixed, grid, ranges, sample, quality. Factories that it names are run."),),
        out=True,
    ),
    Section(
        "hardware",
        "The machines that profiles describe.",
        (
            Entry("list", "The shipped profiles.", "alrsim.study.machines:machines"),
            Entry(
                "show",
                "Every figure of a profile with its source.",
                "alrsim.study.machines:show_machine",
                (PROFILE,),
            ),
            Entry(
                "validate",
                "What is wrong with, or doubtful about, a profile.",
                "alrsim.study.machines:review_machine",
                (PROFILE,),
            ),
        ),
    ),
    Entry(
        "validate",
        "Steps predicted, run for real, and the predictions scored.",
        "alrsim.validation.verb:validate",
    ),
    Entry(
        "replay",
        "Recorded runs predicted again by this version.",
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
        "The ALR paper's Figure 2, drawn, counted and compared.",
        "alrsim.study.paper_figure:figure2",
        out=True,
    ),
)

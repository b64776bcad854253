"""Options of ``alrsim train``, in groups."""

from pathlib import Path
from typing import Annotated

import typer

_DATA, _METHOD, _UPDATE = "Data and steps", "Gradient estimator", "Update"
_MONITOR, _WHERE, _FILES = "Monitor", "Where tasks run", "Files"

Data = Annotated[
    str | None,
    typer.Option(
        "--data", metavar="D", help="Data set; `digits` comes along. Default: what fits.", rich_help_panel=_DATA
    ),
]
DataFolder = Annotated[
    Path | None,
    typer.Option(
        "--data-folder", "--data-dir", metavar="DIR", help="Folder of a data set that has files.", rich_help_panel=_DATA
    ),
]
Batch = Annotated[int, typer.Option("--batch", metavar="N", help="Samples in a step.", rich_help_panel=_DATA)]
Steps = Annotated[
    int | None, typer.Option("--steps", metavar="N", help="Optimizer steps. Default: 600.", rich_help_panel=_DATA)
]
Epochs = Annotated[
    float | None, typer.Option("--epochs", metavar="E", help="Instead of --steps.", rich_help_panel=_DATA)
]
EvalEvery = Annotated[
    int, typer.Option("--eval-every", metavar="N", help="Steps between rows of the log.", rich_help_panel=_DATA)
]
Seed = Annotated[
    int,
    typer.Option(
        "--seed",
        metavar="N",
        min=0,
        help="Of the first parameters, the order of data, and the noise.",
        rich_help_panel=_DATA,
    ),
]

MethodName = Annotated[
    str,
    typer.Option(
        "--method",
        metavar="M",
        help="bp | lr | alr | es | aes | hybrid | a-hybrid | lr-rademacher | lr-laplace | lr-hadamard | segments | "
        "auto (kind and copies of every layer are measured at the start) | fa | fa-sequential | hsic.",
        rich_help_panel=_METHOD,
    ),
]
Copies = Annotated[
    int, typer.Option("--copies", metavar="C", help="Noise draws per sample in a step.", rich_help_panel=_METHOD)
]
Group = Annotated[
    int | None,
    typer.Option("--group", metavar="N", help="Copies stacked in one task. Default: all.", rich_help_panel=_METHOD),
]
Sigma = Annotated[
    float | None,
    typer.Option(
        "--sigma", metavar="S", help="Standard deviation of the noise. Default: 0.02.", rich_help_panel=_METHOD
    ),
]
SigmaRule = Annotated[
    str | None,
    typer.Option(
        "--sigma-rule",
        metavar="R",
        help="fixed | relative (to the values' spread) | balanced (stages move the loss alike) | learned. "
        "relative and balanced: measured once, at the start.",
        rich_help_panel=_METHOD,
    ),
]
SigmaRate = Annotated[
    float,
    typer.Option("--sigma-lr", metavar="R", help="learned: Adam's rate for log sigma.", rich_help_panel=_METHOD),
]
Baseline = Annotated[
    str | None,
    typer.Option("--baseline", metavar="B", help="clean | copy-mean | antithetic | none.", rich_help_panel=_METHOD),
]
Noise = Annotated[
    str | None,
    typer.Option(
        "--noise", metavar="N", help="gauss | rademacher | laplace | hadamard | sobol.", rich_help_panel=_METHOD
    ),
]
InputCode = Annotated[
    str | None,
    typer.Option(
        "--input-code",
        metavar="C",
        help="How inputs are kept: plain | sign | sign-scaled | threshold.",
        rich_help_panel=_METHOD,
    ),
]
NoiseCode = Annotated[
    str | None, typer.Option("--noise-code", metavar="C", help="plain | sign.", rich_help_panel=_METHOD)
]
WeightCode = Annotated[
    str | None,
    typer.Option(
        "--weight-code", metavar="C", help="Format of the loss weights: fp32 | int8 | int4.", rich_help_panel=_METHOD
    ),
]
Mask = Annotated[
    str | None,
    typer.Option(
        "--mask",
        metavar="M",
        help="Losses that weigh a noise element: none (all of its sample), or reach (those that it can influence). "
        "Default: reach where nodes or positions have losses of their own.",
        rich_help_panel=_METHOD,
    ),
]
Precision = Annotated[
    str | None,
    typer.Option(
        "--precision",
        metavar="SPEC",
        help="Formats of what is kept, such as saved=int8,noise=regenerated. Default: the method's.",
        rich_help_panel=_METHOD,
    ),
]
Segments = Annotated[
    str | None,
    typer.Option(
        "--segments",
        metavar="S1,S2",
        help="segments: first stage of every later segment; noise at their ends, the last one is exact.",
        rich_help_panel=_METHOD,
    ),
]
PlanFile = Annotated[
    Path | None,
    typer.Option(
        "--plan",
        metavar="FILE",
        help="Instead of --method: estimators per stage, of `alrsim gradcheck --suggest C -o FILE`.",
        rich_help_panel=_METHOD,
    ),
]
Reduce = Annotated[
    str | None,
    typer.Option("--reduce", metavar="R", help="stack copies, or accumulate them.", rich_help_panel=_METHOD),
]
Scope = Annotated[
    str | None, typer.Option("--scope", metavar="S", help="Noise joint or layerwise.", rich_help_panel=_METHOD)
]
Inject = Annotated[
    str | None,
    typer.Option(
        "--inject",
        metavar="P",
        help="Noise pre (on pre-activations) or post (behind activation, pooling, residual sum). Default: pre.",
        rich_help_panel=_METHOD,
    ),
]
Cut = Annotated[
    str | None,
    typer.Option("--cut", metavar="SPEC", help="Instead of --inject: see `alrsim stages`.", rich_help_panel=_METHOD),
]
Beta = Annotated[
    float | None,
    typer.Option("--beta", metavar="B", help="hsic: weight of the labels. Default: 500.", rich_help_panel=_METHOD),
]
KernelSigma = Annotated[
    float | None,
    typer.Option("--kernel-sigma", metavar="S", help="hsic: width of kernels. Default: 5.", rich_help_panel=_METHOD),
]

OptimizerName = Annotated[
    str,
    typer.Option("--optimizer", metavar="O", help="adam | adamw | sgd | momentum | rmsprop.", rich_help_panel=_UPDATE),
]
Rate = Annotated[float, typer.Option("--lr", metavar="R", help="Learning rate.", rich_help_panel=_UPDATE)]
Momentum = Annotated[float, typer.Option("--momentum", metavar="M", help="Of momentum.", rich_help_panel=_UPDATE)]
WeightDecay = Annotated[
    float, typer.Option("--weight-decay", metavar="W", help="Pull towards 0.", rich_help_panel=_UPDATE)
]
RateScheduleName = Annotated[
    str, typer.Option("--lr-schedule", metavar="L", help="constant | step | cosine.", rich_help_panel=_UPDATE)
]
RateEvery = Annotated[
    int, typer.Option("--lr-every", metavar="N", help="step: steps between falls.", rich_help_panel=_UPDATE)
]
RateFactor = Annotated[
    float, typer.Option("--lr-factor", metavar="F", help="step: factor of a fall.", rich_help_panel=_UPDATE)
]
Update = Annotated[
    str,
    typer.Option(
        "--update",
        metavar="U",
        help="gradient, or sign: the optimizer gets the gradient's signs.",
        rich_help_panel=_UPDATE,
    ),
]

Monitor = Annotated[
    int,
    typer.Option(
        "--monitor",
        metavar="N",
        help="Every N steps estimate the gradient's cosine from two halves of the copies; 0: never.",
        rich_help_panel=_MONITOR,
    ),
]
TargetCosine = Annotated[
    float | None,
    typer.Option(
        "--target-cosine",
        metavar="C",
        help="Double or halve the copies to hold this; auto: what its plan aims at, too (0.7).",
        rich_help_panel=_MONITOR,
    ),
]
CopiesMin = Annotated[
    int, typer.Option("--copies-min", metavar="N", help="Fewest copies to go down to.", rich_help_panel=_MONITOR)
]
CopiesMax = Annotated[
    int, typer.Option("--copies-max", metavar="N", help="Most copies to go up to.", rich_help_panel=_MONITOR)
]

Schedule = Annotated[
    str | None,
    typer.Option(
        "--schedule",
        metavar="SCHEDULER",
        help="Run the tasks on worker threads: lr-fixed, lr-free, gpipe, 1f1b... Same result bit for bit. "
        "Default: in sequence.",
        rich_help_panel=_WHERE,
    ),
]
Units = Annotated[
    int | None, typer.Option("--units", metavar="N", help="Worker threads. Default: 2.", rich_help_panel=_WHERE)
]
Microbatches = Annotated[
    int, typer.Option("--microbatches", "-m", metavar="M", help="Parts of a batch.", rich_help_panel=_WHERE)
]

Out = Annotated[
    Path | None,
    typer.Option(
        "--out",
        metavar="DIR",
        help="Folder for log.csv, log.jsonl, train.json, curves.png and checkpoint.pt.",
        rich_help_panel=_FILES,
    ),
]
Checkpoint = Annotated[
    Path | None,
    typer.Option(
        "--checkpoint", metavar="FILE", help="Default: checkpoint.pt in --out, if given.", rich_help_panel=_FILES
    ),
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint, exactly.", rich_help_panel=_FILES)]
Json = Annotated[
    str | None,
    typer.Option("--json", metavar="FILE", help="Write JSON to a file, or to stdout with -.", rich_help_panel=_FILES),
]

"""The options that several verbs share: their types and help, so that every verb spells them alike."""

from pathlib import Path
from typing import Annotated

import typer

ModelArgument = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A zoo name (resnet5, mlp, lstm...), a factory (file.py:make or package.module:make), an .onnx file, "
        "or a graph file written by `alrsim graph -o`.",
        show_default=False,
    ),
]
TorchModelArgument = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A torch model: a zoo name (resnet5, mlp, lstm...) or a factory (file.py:make or package.module:make).",
        show_default=False,
    ),
]
ModelOptions = Annotated[
    list[str] | None,
    typer.Option("--option", metavar="KEY=VALUE", help="Option of a zoo model, such as norm=group. Repeatable."),
]
Bind = Annotated[
    list[str] | None,
    typer.Option("--bind", metavar="DIM=N", help="Size of a dynamic dimension of an .onnx file. Repeatable."),
]
Batch = Annotated[
    int | None,
    typer.Option("--batch", metavar="N", help="Samples in the whole batch. Default: 32, or what the file holds."),
]
Microbatches = Annotated[
    int, typer.Option("--microbatches", "-m", metavar="M", help="Micro-batches that the batch is split into.")
]
Hardware = Annotated[
    str, typer.Option("--hardware", metavar="P", help="Hardware profile: a name (see `hardware list`) or a file.")
]
Units = Annotated[int | None, typer.Option("--units", "-n", metavar="N", help="Units. Default: what the profile has.")]
Cut = Annotated[
    str | None,
    typer.Option(
        "--cut",
        metavar="SPEC",
        help="balanced:K | module[:DEPTH] | operator | layer | block | names:op1,op2. "
        "Default: balanced over the units for BP (equally slow on the machine), layer for LR.",
    ),
]
Chunks = Annotated[
    int | None,
    typer.Option("--chunks", metavar="V", help="Stages per unit of interleaved-1f1b and zb-v. Default 2."),
]
Copies = Annotated[int, typer.Option("--copies", metavar="C", help="LR: noisy copies of each micro-batch.")]
Group = Annotated[
    int | None, typer.Option("--group", metavar="N", help="LR: copies stacked in one task. Default: all.")
]
Baseline = Annotated[str, typer.Option("--baseline", metavar="B", help="LR: clean | copy-mean | antithetic | none.")]
Scope = Annotated[str, typer.Option("--scope", metavar="S", help="LR: noise joint | layerwise.")]
Reduce = Annotated[
    str,
    typer.Option(
        "--reduce",
        metavar="R",
        help="LR: stack copies, or accumulate them (one clean forward more, noise drawn again).",
    ),
]
Noise = Annotated[
    str | None,
    typer.Option(
        "--noise",
        metavar="N",
        help="LR: gauss | rademacher | laplace | hadamard | sobol. Default: the method's.",
        show_default=False,
    ),
]
InputCode = Annotated[
    str | None,
    typer.Option(
        "--input-code",
        metavar="C",
        help="LR: how a stage's input is kept: plain | sign | sign-scaled | threshold. Default: the method's.",
        show_default=False,
    ),
]
NoiseCode = Annotated[
    str | None,
    typer.Option(
        "--noise-code",
        metavar="C",
        help="LR: gradients see the noise as it is (plain), or its signs (sign). Default: the method's.",
        show_default=False,
    ),
]
PlanPath = Annotated[
    Path | None,
    typer.Option(
        "--plan",
        metavar="FILE",
        help="Method lr: one estimator per stage, from a file of `alrsim gradcheck --suggest -o`.",
    ),
]
Inject = Annotated[
    str,
    typer.Option(
        "--inject",
        metavar="I",
        help="LR: noise on pre-activations (pre) or behind activation, pooling, residual sum (post); sets the cut.",
    ),
]
PrecisionText = Annotated[
    str | None,
    typer.Option(
        "--precision",
        metavar="SPEC",
        help="One format for all (fp32, bf16, fp16) or params=bf16,activations=bf16,saved=int8,noise=regenerated. "
        "Signs of signed inputs are -1, 0, 1 in saved=int8, but one bit in saved=sign1, where zeros become 1; "
        "threshold codes take two bits there.",
    ),
]
Optimizer = Annotated[str, typer.Option("--optimizer", metavar="O", help="sgd | momentum | adam.")]
Update = Annotated[bool, typer.Option("--update/--no-update", help="Parameter updates are tasks.")]
Loss = Annotated[bool, typer.Option("--loss/--no-loss", help="The loss is a task.")]
Segments = Annotated[
    str | None,
    typer.Option("--segments", metavar="S1,S2", help="Method segments: first stage of every later segment."),
]
FirstInputGradient = Annotated[
    bool,
    typer.Option("--first-input-gradient", help="BP: stage 0 computes an input gradient too, and pays for it."),
]
Semantics = Annotated[str, typer.Option("--transfer-semantics", metavar="T", help="latency | link | blocking.")]
Engine = Annotated[
    str,
    typer.Option(
        "--engine",
        metavar="E",
        help="simpy: the reference. fast: compiled, the same times. auto: fast for large problems where it is exact.",
    ),
]
Cost = Annotated[
    str,
    typer.Option(
        "--cost",
        metavar="C",
        help="measured: task times of a calibrated profile. roofline: its figures. auto: measured where every task is.",
    ),
]
Overlap = Annotated[
    str, typer.Option("--overlap", metavar="F", help="Time of a fused pair of tasks, as a share of their sum.")
]
Method = Annotated[
    str,
    typer.Option("--method", metavar="RULE:SCHEDULER", help="Such as bp:1f1b, bp:zb-h1, lr:lr-fixed, alr:lr-free."),
]
TimeLimit = Annotated[
    float | None,
    typer.Option(
        "--time-limit",
        metavar="S",
        help="Seconds for schedulers that search (auto, cpsat, local-search). Default: a fixed amount of work, "
        "which gives the same schedule on every host.",
    ),
]
Search = Annotated[
    list[str] | None,
    typer.Option(
        "--search",
        metavar="KEY=VALUE",
        help="For schedulers that search: placement=fixed|stages|free, gradients=free, live=N (micro-batches that a "
        "unit may hold), priority=..., base=..., effort=..., seed=..., workers=..., memory=no, exact=no. Repeatable.",
    ),
]
JsonTarget = Annotated[
    str | None, typer.Option("--json", metavar="FILE", help="Write JSON to a file, or to stdout with -.")
]
OutFolder = Annotated[
    Path | None, typer.Option("--out", metavar="DIR", help="Folder for pictures and traces; made if missing.")
]
OutputFile = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write the value to a file for later verbs.")
]
Seed = Annotated[int, typer.Option("--seed", metavar="N", min=0, help="Seed of noise and data in measured runs.")]
Repeats = Annotated[int, typer.Option("--repeats", metavar="N", help="Measured runs; the median is reported.")]
ExecutorName = Annotated[
    str,
    typer.Option(
        "--executor",
        metavar="E",
        help="What runs the schedule: threads (workers of this process) | processes (one pinned process per unit) | "
        "torchrun | cuda.",
    ),
]
Limit = Annotated[
    float | None,
    typer.Option(
        "--limit",
        metavar="SECONDS",
        help="Give a run up when no task begins or ends for that long. Default: 300.",
        show_default=False,
    ),
]
Repair = Annotated[bool, typer.Option("--repair", help="Correct the known fault of PyTorch's own 1F1B rows.")]
Signs = Annotated[
    bool, typer.Option("--signs", help="A schedule file of rule lr is one of ALR: codes of input and noise are signs.")
]

"""PyTorch's CSV in both directions, judged by torch's own schedules, loader and validator."""

import csv
import io
from dataclasses import replace
from fractions import Fraction
from unittest import mock

import pytest
from torch.distributed.pipelining import schedules as torch_schedules
from torch.distributed.pipelining._schedule_visualizer import get_schedule_ops
from torch.distributed.pipelining.stage import PipelineStage

from alrsim.errors import ScheduleError
from alrsim.schedule.adapt import fit
from alrsim.schedule.check import check
from alrsim.schedule.evaluate import evaluate
from alrsim.schedule.files import read_schedule
from alrsim.schedule.lower import lower
from alrsim.schedule.merge import merge_gradients
from alrsim.schedule.pytorch_csv import format_pytorch_csv, parse_pytorch_csv, write_pytorch_csv
from alrsim.schedulers import schedule
from alrsim.tasks.token import TaskId

SINGLE = ("GPipe", "1F1B")
V_SHAPED = ("ZBVZeroBubble", "DualPipeV")
LOOPED = ("Interleaved1F1B", "LoopedBFS", "InterleavedZeroBubble")


def torch_csv(name, p, m, v):
    """The rows as torch's ``_dump_csv`` writes them, or None where torch refuses."""
    try:
        rows = get_schedule_ops(name, p, m, None if name in SINGLE else v)
    except (ValueError, AssertionError):
        return None
    out = io.StringIO()
    csv.writer(out).writerows(rows)
    return out.getvalue()


def grid(name):
    """``(p, m, v, rows)`` for everything that torch accepts."""
    chunks = (1,) if name in SINGLE else (2,) if name in V_SHAPED else (2, 3)
    for p in (1, 2, 3, 4, 8):
        for m in (1, 2, 3, 4, 6, 8, 9, 16):
            for v in chunks:
                rows = torch_csv(name, p, m, v)
                if rows is not None:
                    yield p, m, v, rows


def makespan(problem, made):
    return int(evaluate(lower(problem, made))[1].max())


@pytest.mark.parametrize("name", [*SINGLE, *V_SHAPED, *LOOPED])
def test_every_schedule_that_torch_yields_is_read_checked_and_evaluated(textbook, name):
    accepted = 0
    for p, m, v, rows in grid(name):
        accepted += 1
        read = parse_pytorch_csv(rows, repair=True, updates=False)
        problem = textbook(p * v, p, m, "bp-split", f=2, b=1, w=1)
        fitted = fit(problem, read.schedule)
        check(fitted.problem, fitted.schedule)
        end = makespan(fitted.problem, fitted.schedule)
        assert m * v * 4 <= end <= m * p * v * 4
        if name in SINGLE:
            assert end == (m + p - 1) * 4
        elif name in ("Interleaved1F1B", "LoopedBFS") and m % p == 0:
            assert end == (m * v + p - 1) * 4
    assert accepted >= 12


def test_looped_bfs_takes_m_v_plus_p_minus_1_chunk_times_and_holds_every_chunk(textbook):
    for p in (2, 3, 4, 5, 8):
        for v in (2, 3, 4):
            for m in sorted({p, 2 * p, 32 // p * p}):
                problem = textbook(p * v, p, m, f=2, b=3, w=1)
                read = parse_pytorch_csv(torch_csv("LoopedBFS", p, m, v)).schedule
                check(problem, read)
                assert makespan(problem, read) == (m * v + p - 1) * 6
                for lane in read.lanes:
                    kinds = [task.kind for task in lane.tasks]
                    assert kinds == ["F"] * (m * v) + ["B"] * (m * v)


@pytest.mark.parametrize(
    ("name", "v", "expected"),
    [
        ("GPipe", 1, 33),
        ("1F1B", 1, 33),
        ("Interleaved1F1B", 2, 57),
        ("LoopedBFS", 2, 57),
        ("InterleavedZeroBubble", 2, 51),
        ("ZBVZeroBubble", 2, 51),
        ("DualPipeV", 2, 54),
    ],
)
def test_the_textbook_case_of_four_units_and_eight_microbatches(textbook, name, v, expected):
    read = parse_pytorch_csv(torch_csv(name, 4, 8, v), repair=True, updates=False)
    fitted = fit(textbook(4 * v, 4, 8, "bp-split"), read.schedule)
    check(fitted.problem, fitted.schedule)
    assert makespan(fitted.problem, fitted.schedule) == expected


@pytest.mark.parametrize("v", [2, 3])
def test_our_interleaved_order_is_as_fast_as_torchs(textbook, v):
    for p in (2, 3, 4):
        for m in (p, 2 * p, 4 * p):
            problem = textbook(p * v, p, m, f=3, b=1, w=2)
            theirs = parse_pytorch_csv(torch_csv("Interleaved1F1B", p, m, v)).schedule
            assert makespan(problem, schedule(problem, "interleaved-1f1b")) == makespan(problem, theirs)


def test_our_zb_v_order_is_as_fast_as_torchs_for_any_durations(textbook):
    for p, m, f, b, w in [(2, 4, 2, 3, 1), (3, 7, 1, 1, 1), (4, 8, 3, 4, 2), (4, 5, 1, 2, 1), (5, 12, 2, 1, 1)]:
        problem = textbook(2 * p, p, m, "bp-split", f=f, b=b, w=w)
        theirs = parse_pytorch_csv(torch_csv("ZBVZeroBubble", p, m, 2)).schedule
        assert makespan(problem, schedule(problem, "zb-v")) <= makespan(problem, theirs)


def test_torchs_1f1b_row_is_refused_with_its_tokens_and_can_be_repaired(textbook):
    rows = torch_csv("1F1B", 4, 8, 1)
    with pytest.raises(ScheduleError) as caught:
        parse_pytorch_csv(rows, where="1f1b.csv")
    assert str(caught.value) == (
        "1f1b.csv: missing 3F0; unknown 3F8: the forwards of stage 3 count from 1 to 8, not from 0 "
        "(a fault of PyTorch's 1F1B)\n  try: read it with repair"
    )
    read = parse_pytorch_csv(rows, repair=True, updates=False)
    assert read.notes == (
        "dropped 4 REDUCE_GRAD: updates are off",
        "repaired stage 3: its forwards counted from 1 instead of 0",
    )
    problem = textbook(4, 4, 8)
    assert read.schedule.digest == schedule(problem, "1f1b").digest


def test_reduce_grad_is_the_update_where_updates_are_on(textbook):
    problem = textbook(3, 3, 4, update=True, u=1)
    read = parse_pytorch_csv(torch_csv("GPipe", 3, 4, 1))
    assert read.notes == ()
    assert read.schedule.digest == schedule(problem, "gpipe").digest


def test_a_model_gets_its_loss_and_update_tasks_and_loses_what_its_first_stage_does_not_need(textbook, tmp_path):
    file = tmp_path / "zbv.csv"
    file.write_text(torch_csv("ZBVZeroBubble", 2, 4, 2))
    problem = textbook(4, 2, 4, "bp-split", l=1, u=1, loss=True, update=True, first_input_gradient=False)
    fitted = read_schedule(file, problem)
    check(fitted.problem, fitted.schedule)
    assert fitted.problem is problem
    assert fitted.notes == (
        "4 input gradients dropped, the model has no use for them: 0I0, 0I1, 0I2, 0I3",
        "4 loss tasks placed after the last stage's forward: 4L0, 4L1, 4L2, 4L3",
        "4 updates placed after the last task of their stage: 0U, 1U, 2U, 3U",
    )
    lane = [str(task) for task in fitted.schedule.lanes[1].tasks]
    assert lane[-1] in ("1U", "2U")
    first = [str(task) for task in fitted.schedule.lanes[0].tasks]
    assert first[first.index("3F0") + 1] == "4L0"


def test_overlapped_pairs_of_dualpipe_v_are_fused_and_cost_their_share(textbook):
    fitted = fit(textbook(4, 2, 4, "bp-split"), parse_pytorch_csv(torch_csv("DualPipeV", 2, 4, 2)).schedule)
    assert (TaskId(0, "F", 3), TaskId(3, "B", 1)) in fitted.schedule.overlaps
    check(fitted.problem, fitted.schedule)
    whole = lower(fitted.problem, fitted.schedule)
    half = lower(fitted.problem, fitted.schedule, overlap=Fraction(2, 3))
    pairs = [item for item, members in enumerate(whole.tasks) if len(members) == 2]
    assert [(whole.duration[i], half.duration[i]) for i in pairs] == [(3, 2)] * len(fitted.schedule.overlaps)


def test_merging_every_input_and_weight_gradient_gives_back_rule_bp(textbook):
    options = {"loss": True, "update": True, "loss_gradient": True, "transfer": 2}
    split, whole = textbook(4, 2, 3, "bp-split", **options), textbook(4, 2, 3, "bp", **options)
    full = [task.id for task in whole.tasks.tasks if task.id.kind == "B" and task.id.stage < 4]
    merged = merge_gradients(split, full)
    assert merged.tasks.tasks == whole.tasks.tasks
    assert merged.tasks.buffers == whole.tasks.buffers
    assert merged.durations == whole.durations


def load_with_torch(path, p, v, m):
    """Torch's loader, which runs torch's validator and then adds the communication."""
    stage = mock.create_autospec(PipelineStage, instance=True)
    stage.group_rank, stage.group_size, stage.submod, stage.num_stages = 0, p, None, p * v
    runtime = torch_schedules._PipelineScheduleRuntime([stage] * v, m)
    runtime._load_csv(str(path))
    return runtime.pipeline_order


@pytest.mark.parametrize(
    ("name", "rule", "v"),
    [
        ("gpipe", "bp", 1),
        ("1f1b", "bp", 1),
        ("interleaved-1f1b", "bp", 2),
        ("interleaved-1f1b", "bp", 3),
        ("zb-h1", "bp-split", 1),
        ("zb-v", "bp-split", 2),
        ("list", "bp-split", 2),
        ("list", "bp", 1),
    ],
)
@pytest.mark.parametrize("first_input_gradient", [True, False])
def test_torch_accepts_what_we_write_and_we_read_it_back(textbook, tmp_path, name, rule, v, first_input_gradient):
    for p, m in [(1, 2), (2, 4), (3, 5), (4, 8)]:
        if name == "interleaved-1f1b" and p == 1:
            continue
        problem = textbook(p * v, p, m, rule, first_input_gradient=first_input_gradient)
        made = schedule(problem, name)
        file = tmp_path / f"{p}.csv"
        write_pytorch_csv(file, made)
        order = load_with_torch(file, p, v, m)
        assert [len(order[rank]) for rank in range(p)] == [len(lane.tasks) for lane in made.lanes]
        assert read_schedule(file, problem).schedule.digest == made.digest


def test_overlaps_survive_torchs_loader(textbook, tmp_path):
    fitted = fit(textbook(4, 2, 4, "bp-split"), parse_pytorch_csv(torch_csv("DualPipeV", 2, 4, 2)).schedule)
    write_pytorch_csv(tmp_path / "dualpipe.csv", fitted.schedule)
    order = load_with_torch(tmp_path / "dualpipe.csv", 2, 2, 4)
    fused = [str(action) for rank in (0, 1) for action in order[rank] if action.sub_actions]
    assert fused == [f"({first};{second})OVERLAP_F_B" for first, second in fitted.schedule.overlaps]


@pytest.mark.parametrize(
    ("name", "rule", "options", "message"),
    [
        ("gpipe", "bp", {"loss": True}, r"no action for L \(loss\): 2L0, 2L1"),
        ("gpipe", "bp", {"update": True}, r"no action for U \(update\): 0U, 1U"),
        ("lr-fixed", "lr", {"baseline": "none"}, r"no action for G \(LR gradient\)"),
        ("lr-fixed", "lr", {"copies": 2, "reduction": "accumulate"}, r"C \(cotangent accumulation\), G"),
    ],
)
def test_what_pytorch_has_no_word_for_is_not_written(textbook, tmp_path, name, rule, options, message):
    made = schedule(textbook(2, 2, 2, rule, **options), name)
    with pytest.raises(ScheduleError, match=message):
        write_pytorch_csv(tmp_path / "no.csv", made)
    assert list(tmp_path.iterdir()) == []


def test_copy_groups_and_split_stages_are_not_written(textbook):
    problem = textbook(2, 2, 1, first_input_gradient=True)
    made = schedule(problem, "1f1b")
    first, second = made.lanes
    moved = replace(
        made, lanes=(replace(first, tasks=first.tasks[:1]), replace(second, tasks=second.tasks + first.tasks[1:]))
    )
    with pytest.raises(ScheduleError, match="a stage on one rank, but stage 0 is on u0 and u1"):
        format_pytorch_csv(moved)
    grouped = replace(made, lanes=(replace(first, tasks=(TaskId(0, "F", 0, 1),)), second))
    with pytest.raises(ScheduleError, match=r"no copy groups: 0F0\.1"):
        format_pytorch_csv(grouped)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no actions"),
        (",,\n", "holds no actions"),
        ("0F0,0B0,hello", r"row 0, cell 2: 'hello' is not an action"),
        ("0F0,0B", "'0B' needs a micro-batch"),
        ("0F0,0X0", "'0X0' is not an action"),
        ("0F0,0F0,0B0", "missing 0F1, 0B1; double 0F0"),
        ("0F0,0B0\n1F0", "missing 1B0"),
        ("0F0,0I0", "missing 0W0"),
        ("0F0,0B0,0W0", "double 0W0 beside 0B0"),
        ("0F0,0B0,0B5", "unknown 0B5"),
        ("0F0\n0B0", "stage 0 is on rows 0 and 1"),
        ("(0F0)OVERLAP_F_B,0B0", "is not an action"),
        ("0F0,0F1,(0F1;0I0)OVERLAP_F_B", "does not overlap a forward and a full backward"),
        ("999999999F0,999999999B0", "stage 0 has no actions, but stage 999999999 has"),
        ("0F0,0B0,2F0,2B0", "stage 1 has no actions, but stage 2 has"),
        (f"0F{'1' * 5000}", "is not an action"),
        ("0F0,-1F0", "'-1F0' is not an action"),
        ("0F0,0B0\x00", r"row 0, cell 1: '0B0\\x00' is not an action|is not CSV"),
        ('0F0,"0B0', "^$"),
    ],
)
def test_a_bad_csv_is_refused_with_row_and_cell(text, message):
    if message == "^$":  # an open quote is read to the end of the file, as csv does
        assert len(parse_pytorch_csv(text).schedule.lanes[0].tasks) == 2
        return
    with pytest.raises(ScheduleError, match=message):
        parse_pytorch_csv(text)


def test_rows_and_units_must_agree():
    with pytest.raises(ScheduleError, match="1 rows for 2 units"):
        parse_pytorch_csv("0F0,0B0", units=["u0", "u1"])


def test_communication_is_dropped_with_a_note():
    read = parse_pytorch_csv("0UNSHARD,0F0,0SEND_F0,0RECV_B0,0B0,0RESHARD")
    assert [str(task) for task in read.schedule.lanes[0].tasks] == ["0F0", "0B0"]
    assert read.notes == (
        "dropped 1 UNSHARD, 1 SEND_F, 1 RECV_B, 1 RESHARD: transfers follow from the placement, sharding is not "
        "modelled",
    )

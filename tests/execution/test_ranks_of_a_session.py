"""The executor ``torchrun`` in a program that torchrun did not start: the session forks its ranks, for a model that
only this process has. What all executors have in common is in the suites of all executors."""

import os
import re
import stat
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from torch import nn

from alrsim.cost.cut import cut_graph
from alrsim.cost.stages import build_stages
from alrsim.execution.executor import Batch, Scheduled, execute_prepared, prepare, sequential
from alrsim.execution.executors import EXECUTORS, unavailable
from alrsim.execution.programs.program import build_program
from alrsim.execution.session import Limits
from alrsim.execution.workers import gloo
from alrsim.frontend.torch_export import export_model
from alrsim.frontend.torch_model import TorchModel
from alrsim.hardware.machine import abstract_machine
from alrsim.rules import RULES, RuleOptions
from alrsim.schedulers.registry import schedule
from alrsim.tasks.problem import Problem

LISTENING, LOOPBACK = "0A", {"0100007F", "00000000000000000000000001000000", "0000000000000000FFFF00000100007F"}


def made_here(units=2):
    """A job on a class that no other process could import."""

    class Local(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(6, 5), nn.Linear(5, 3)

        def forward(self, x):
            return self.second(torch.tanh(self.first(x)))

    torch.manual_seed(1)
    model = TorchModel("local", Local(), lambda batch: (torch.zeros(batch, 6),), 3)
    exported = export_model(model, 2)
    stages = build_stages(exported.graph, cut_graph(exported.graph, "layer"), batch=2)
    options = RuleOptions(microbatches=3)
    graph = RULES["bp"](stages, options)
    program = build_program(exported.graph, exported.program, stages)
    batch = Batch((torch.randn(6, 6),), torch.randint(0, 3, (6,)))
    problem = Problem(graph, abstract_machine(units), tuple((1,) * units for _ in graph.tasks), "test")
    return Scheduled(prepare(program, graph, batch, options), problem, schedule(problem, "1f1b"))


def run(job):
    return execute_prepared(
        job.prepared, job.problem, job.schedule, executor="torchrun", repeats=2, dispatch_overhead_ns=0
    )


@pytest.mark.parametrize("main", [True, False], ids=["main thread", "another thread"])
def test_a_model_of_this_process_runs_on_ranks_and_the_results_come_back(main):
    job, found = made_here(), []
    if main:
        found.append(run(job))
    else:
        thread = threading.Thread(target=lambda: found.append(run(job)))
        thread.start()
        thread.join()
    expected = sequential(
        job.prepared.job.program, job.prepared.job.graph, job.prepared.batch, job.prepared.job.options
    )
    for what in ("gradients", "parameters", "losses"):
        ours, theirs = getattr(found[0], what), getattr(expected, what)
        assert set(ours) == set(theirs)
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs), what
    facts = found[0].timeline.facts
    assert (facts.executor, facts.ranks, facts.transport) == ("torchrun", 2, gloo.TRANSPORT)
    assert not torch.distributed.is_initialized()


def sockets(process):
    """Numbers of the sockets that a process has open."""
    found = set()
    for file in Path(f"/proc/{process}/fd").iterdir():
        with suppress(OSError):
            found |= set(re.findall(r"socket:\[(\d+)\]", os.readlink(file)))
    return found


def listening():
    """Local address of every listening socket of this host, by number."""
    found = {}
    for table in ("tcp", "tcp6"):
        with suppress(OSError):
            for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == LISTENING:
                    found[fields[9]] = fields[1].partition(":")[0]
    return found


@pytest.mark.parametrize("executor", [name for name in EXECUTORS if not unavailable(name)])
def test_a_session_listens_to_this_host_alone(executor):
    job, before = made_here(), sockets(os.getpid())
    with EXECUTORS[executor]([job], Limits()) as session:
        session.run(0)
        here = [worker.pid for worker in session._children.workers] if executor != "threads" else []
        own = set().union(*(sockets(pid) for pid in here), sockets(os.getpid())) - before
        addresses = {number: address for number, address in listening().items() if number in own}
    assert bool(addresses) == (executor == "torchrun")  # gloo's own
    assert set(addresses.values()) <= LOOPBACK


def test_ranks_meet_in_a_private_folder_that_is_gone_before_they_run(monkeypatch, tmp_path):
    seen = []
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("alrsim.execution.workers.torchrun._connect", wrapped(seen))
    with EXECUTORS["torchrun"]([made_here()], Limits()) as session:
        assert list(tmp_path.iterdir()) == []
        session.run(0)
    assert seen == [0o700]


def wrapped(seen):
    from alrsim.execution.workers.torchrun import _connect

    def connect(meeting, *arguments):
        seen.append(stat.S_IMODE(Path(meeting).parent.stat().st_mode))
        return _connect(meeting, *arguments)

    return connect


def test_a_script_without_a_guard_around_its_main_part_can_run_ranks(tmp_path):
    """No rank reads the script again: forked ranks need not."""
    script = tmp_path / "script.py"
    script.write_text(
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "print('once')\n"
        "from test_ranks_of_a_session import made_here, run\n"
        "print(len(run(made_here()).gradients))\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=200, check=False)
    assert (done.returncode, done.stdout) == (0, "once\n4\n"), done.stderr

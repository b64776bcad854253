"""What the ledger calls freed is really gone: no autograd graph and no Python reference keeps it."""

import pytest
import torch
from torch.multiprocessing.reductions import StorageWeakRef

from alrsim.execution.executor import execute_prepared, prepare
from alrsim.execution.kernels.store import Store
from alrsim.rules import RULES, RuleOptions
from alrsim.schedulers.registry import schedule

FORWARD_DATA = {"value", "raw", "code", "noise"}


@pytest.mark.parametrize(
    ("rule", "cut"),
    [("bp", "balanced:3"), ("bp-split", "balanced:3"), ("lr", "layer"), ("segments", "balanced:3"), ("bp", "operator")],
)
def test_values_that_no_task_reads_any_more_are_gone(subject, problem_of, monkeypatch, rule, cut):
    one = subject("resnet5", cut, width=4, image_size=16)
    options = RuleOptions(microbatches=3, copies=2, segments=(1,))
    graph = RULES[rule](one.stages, options)
    problem = problem_of(graph, 1)
    prepared = prepare(one.program, graph, one.batch(3), options)
    seen, leaks, checked = {}, [], []
    put, finish = Store.put, Store.finish

    def spying_put(self, task, key, value, *rest):
        put(self, task, key, value, *rest)
        if key[0] in FORWARD_DATA:
            tensors = [value] if isinstance(value, torch.Tensor) else [code.data for code in value]
            seen[key] = [StorageWeakRef(tensor.untyped_storage()) for tensor in tensors]

    def spying_finish(self, task):
        finish(self, task)
        spared = {ref.cdata for key in self.values if key in seen for ref in seen[key]}
        for key in [key for key in seen if key not in self.values]:
            references = seen.pop(key)
            checked.append(key)
            leaks.extend(key for ref in references if ref.cdata not in spared and not ref.expired())

    monkeypatch.setattr(Store, "put", spying_put)
    monkeypatch.setattr(Store, "finish", spying_finish)
    execute_prepared(prepared, problem, schedule(problem, "serial"), repeats=1, warmup=0, dispatch_overhead_ns=0)
    assert len(checked) > 3
    assert not leaks

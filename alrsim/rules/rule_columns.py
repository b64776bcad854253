"""Any rule as numpy columns, for steps of more tasks than there is room for objects."""

from dataclasses import replace

from alrsim.errors import OptionError
from alrsim.graph.stages import StageGraph
from alrsim.rules import RULES, RuleOptions
from alrsim.tasks.task_columns import TaskColumns


def column_tasks(rule: str, graph: StageGraph, options: RuleOptions) -> TaskColumns:
    """The tasks of one step under a rule.

    Args:
        rule: Key of :data:`alrsim.rules.RULES`.
        options: Its ``microbatches`` may be as large as memory allows for one number per task.

    Raises:
        OptionError: an unknown rule, or what the rule itself refuses.
    """
    if rule not in RULES:
        raise OptionError(f"there is no rule {rule!r}", field="rule", fix=f"choose one of {', '.join(RULES)}")
    template = RULES[rule](graph, replace(options, microbatches=1))
    if options.microbatches > 1:  # some notes are about steps of more than one micro-batch
        template = replace(template, notes=RULES[rule](graph, replace(options, microbatches=2)).notes)
    return TaskColumns(template, options.microbatches)

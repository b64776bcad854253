"""The one rule with one parameter, the segmentation, from which BP, split BP, LR and mixtures follow.

Reference order of a step: micro-batches ascending; in each the clean forward and its loss, BP gradients of an exact
head, then per copy group forward, loss and its C or G tasks, then whatever had to wait for all groups; updates last.
"""

from alrsim.graph.stages import MODEL_INPUT, Edge, Stage, StageGraph
from alrsim.graph.work import NO_WORK, Work
from alrsim.hardware.precision import Precision
from alrsim.rules.builder import Draft
from alrsim.rules.instances import Instance, Instances, forward_instances
from alrsim.rules.options import OPTIMIZER_STATES, RuleOptions
from alrsim.rules.segmentation import Segmentation
from alrsim.tasks.taskgraph import Category, TaskGraph
from alrsim.tasks.token import NONE, Kind, TaskId

NORMAL_FLOPS = 20
"""Element-wise FLOPs charged for one Gaussian number from a counter-based generator (Box-Muller on hashed bits)."""

UPDATE_FLOPS = {"sgd": 2, "momentum": 4, "adam": 12}
"""Element-wise FLOPs per parameter of one update."""


def build_tasks(
    graph: StageGraph, segmentation: Segmentation, options: RuleOptions, *, split: bool, rule: str
) -> TaskGraph:
    """Every task of one training step under a segmentation.

    Args:
        split: BP gradients as separate I and W tasks.
        rule: For reports.
    """
    family = _Family(graph, segmentation, options, split)
    for microbatch in range(options.microbatches):
        family.add_microbatch(microbatch)
    if options.update:
        family.add_updates()
    return family.draft.freeze(
        rule=rule,
        stages=len(graph.stages),
        microbatches=options.microbatches,
        forwards_per_step=_forwards(graph, family.instances),
        notes=_notes(segmentation, options),
    )


def _forwards(graph: StageGraph, instances: Instances) -> float:
    weight = [stage.forward.macs for stage in graph.stages]
    if not any(weight):
        weight = [1] * len(weight)
    passed = sum(one.copies * weight[stage] for one in instances.ordered for stage in one.stages)
    return passed / sum(weight)


def _notes(segmentation: Segmentation, options: RuleOptions) -> tuple[str, ...]:
    if segmentation.has_lr and options.baseline == "none":
        return ("baseline none: without one an LR gradient is mostly noise at the usual noise scales",)
    return ()


class _Family:
    """The state of one build: where each value, loss and gradient of the current micro-batch is."""

    def __init__(self, graph: StageGraph, segmentation: Segmentation, options: RuleOptions, split: bool) -> None:
        self.graph, self.segmentation, self.options, self.split = graph, segmentation, options, split
        self.count = len(graph.stages)
        self.plan = options.precision
        self.layerwise = options.scope == "layerwise"
        self.instances = forward_instances(graph, segmentation, options)
        self.draft = Draft()
        self.incoming = [graph.incoming(stage) for stage in range(self.count + 1)]
        self.outgoing = [graph.outgoing(stage) for stage in range(self.count)]
        self.param = [self._residents(stage) for stage in graph.stages]
        self.partials: list[list[int]] = [[] for _ in graph.stages]
        self.loss_cells: list[int] = []
        # Of the current micro-batch:
        self.values: dict[tuple[str, int], int] = {}
        self.kept: dict[tuple[int, int], list[int]] = {}
        self.noise: dict[tuple[int, int], int | None] = {}
        self.losses: dict[int, int] = {}
        self.forwards: dict[tuple[int, int], int] = {}
        self.upstream: dict[tuple[str, int], list[int]] = {}
        self.sums: dict[int, list[int]] = {}

    def _residents(self, stage: Stage) -> int | None:
        if not stage.parameters:
            return None
        size = self.plan.parameters.bytes_for(stage.parameters)
        param = self.draft.buffer(f"{stage.index}:param", Category.PARAM, size, stage.index, resident=True)
        self.draft.buffer(f"{stage.index}:grad", Category.GRAD, size, stage.index, resident=True)
        states = OPTIMIZER_STATES[self.options.optimizer]
        if states and self.options.update:
            self.draft.buffer(f"{stage.index}:optimizer", Category.OPTIMIZER, states * size, stage.index, resident=True)
        return param

    # One micro-batch --------------------------------------------------------------------------------------------

    def add_microbatch(self, microbatch: int) -> None:
        for state in (
            self.values,
            self.kept,
            self.noise,
            self.losses,
            self.forwards,
            self.upstream,
            self.sums,
        ):
            state.clear()
        for edge in self.graph.edges:
            if edge.source == MODEL_INPUT and (edge.value, NONE) not in self.values:
                size = self.plan.activations.bytes_for(edge.elements)
                name = f"input{microbatch}:{edge.value}"
                self.values[edge.value, NONE] = self.draft.buffer(name, Category.ACTIVATION, size, edge.target)
        clean = self.instances.clean
        if clean is not None:
            self._forward(microbatch, clean)
            self._exact_gradients(microbatch, clean)
        waits_for_all = self.options.baseline == "copy-mean"
        for one in self.instances.noisy:
            self._forward(microbatch, one)
            if not waits_for_all:
                self._signals(microbatch, one)
        if waits_for_all:
            for one in self.instances.noisy:
                self._signals(microbatch, one)
        if self.segmentation.has_lr and self.options.reduction == "accumulate":
            assert clean is not None
            for stage in reversed(range(self.count)):
                self._lr_gradient(microbatch, clean, stage, NONE)

    def _signals(self, microbatch: int, one: Instance) -> None:
        """What a noisy instance's loss sets off: C tasks, or G tasks of its own."""
        for stage in reversed(range(self.count)):
            if one.source is not None and self.segmentation.segment[stage] != one.source:
                continue
            if self.options.reduction == "stack":
                self._lr_gradient(microbatch, one, stage, one.group)
            elif self.segmentation.noised[stage]:
                self._accumulate(microbatch, one, stage)

    # Forward ----------------------------------------------------------------------------------------------------

    def _forward(self, microbatch: int, one: Instance) -> None:
        for stage in self.graph.stages:
            if stage.index in one.stages:
                self._forward_stage(microbatch, one, stage)
        if one.loss:
            self._loss(microbatch, one)

    def _forward_stage(self, microbatch: int, one: Instance, stage: Stage) -> None:
        reads = [] if self.param[stage.index] is None else [self.param[stage.index]]
        reads += [self._value(edge, one) for edge in self.incoming[stage.index]]
        injected = self._injected_by_reader(stage.index, one)
        work = stage.forward.stacked(one.copies) + injected
        if one.source is None and one.noisy:
            work = work + self._noise_work(stage.index, one)
        id_ = TaskId(stage.index, "F", microbatch, one.group)
        task = self.draft.task(id_, [r for r in reads if r is not None], work=work, copies=one.copies)
        self.forwards[stage.index, one.group] = task
        for value, elements in {edge.value: edge.elements for edge in self.outgoing[stage.index]}.items():
            size = self.plan.activations.bytes_for(elements * one.copies)
            self.values[value, one.group] = self._made(task, id_, value, Category.ACTIVATION, size)
        self._keep(task, id_, one, stage)
        if one.noisy:
            self._store_noise(task, microbatch, one, stage.index)

    def _made(self, task: int, id_: TaskId, what: str, category: Category, size: int) -> int:
        return self.draft.buffer(f"{id_}:{what}", category, size, id_.stage, producer=task)

    def _value(self, edge: Edge, one: Instance) -> int:
        """The buffer of an edge's value that this instance reads: its own, else the clean one, else the input."""
        for group in (one.group, 0, NONE):
            if (edge.value, group) in self.values:
                return self.values[edge.value, group]
        raise AssertionError(f"no value {edge.value} for {edge.target}")

    def _keep(self, task: int, id_: TaskId, one: Instance, stage: Stage) -> None:
        """What a forward keeps for the stage's gradient, depending on who computes it."""
        if not self._keeps(stage.index, one):
            return
        kept = []
        if self._is_exit(stage.index):
            encoded = self.plan.saved is not self.plan.activations
            if stage.linear or encoded:
                size = self.plan.saved.bytes_for(stage.lr_saved * one.copies)
                kept.append(self._made(task, id_, "code", Category.ACTIVATION, size))
        elif stage.saved:
            size = self.plan.activations.bytes_for(stage.saved * one.copies)
            kept.append(self._made(task, id_, "saved", Category.ACTIVATION, size))
        self.kept[stage.index, one.group] = kept

    def _keeps(self, stage: int, one: Instance) -> bool:
        """Whether the stage's gradient is computed from the state of this instance's forward.

        With layer-wise noise a segment's input is the clean one for every copy, so only the clean forward keeps it.
        """
        if not self.segmentation.trainable[stage]:
            return False
        clean = self.segmentation.is_exact(stage) or self.options.reduction == "accumulate" or self.layerwise
        return one.noisy is not clean

    def _is_exit(self, stage: int) -> bool:
        return bool(self.segmentation.noised[stage])

    # Noise ------------------------------------------------------------------------------------------------------

    def _noise_elements(self, stage: int) -> int:
        return sum(elements for _, elements in self.segmentation.noised[stage])

    def _noise_work(self, stage: int, one: Instance) -> Work:
        """Draw the noise of a stage's leaving values and add it to every copy."""
        elements = self._noise_elements(stage)
        if not elements:
            return NO_WORK
        drawn, added = elements * one.draws, elements * one.copies
        return Work(elementwise=NORMAL_FLOPS * drawn + 2 * added, activation_writes=drawn, launches=1)

    def _injected_by_reader(self, target: int, one: Instance) -> Work:
        """Layer-wise: the first reader of a clean value adds the segment's noise to it."""
        if one.source is None:
            return NO_WORK
        sources = {edge.source for edge in self.incoming[target] if self._enters(edge, one)}
        work = NO_WORK
        for source in sorted(sources):
            work = work + self._noise_work(source, one)
        return work

    def _enters(self, edge: Edge, one: Instance) -> bool:
        source = edge.source
        return (
            one.noisy
            and source != MODEL_INPUT
            and self.segmentation.segment[source] == one.source
            and self._is_exit(source)
            and not self.segmentation.joined(source, edge.target)
        )

    def _store_noise(self, task: int, microbatch: int, one: Instance, target: int) -> None:
        """Joint noise is stored by the stage that injects it, layer-wise noise by its first reader."""
        if one.source is None:
            sources = {target} if target < self.count and self._is_exit(target) else set()
        else:
            sources = {edge.source for edge in self.incoming[target] if self._enters(edge, one)}
        for source in sorted(sources):
            if (source, one.group) in self.noise:
                continue
            size = self.plan.noise.bytes_for(self._noise_elements(source) * one.draws)
            name = f"{TaskId(source, 'F', microbatch, one.group)}:noise"
            stored = None
            if self.plan.noise is not Precision.REGENERATED:
                stored = self.draft.buffer(name, Category.NOISE, size, source, producer=task)
            self.noise[source, one.group] = stored

    # Loss -------------------------------------------------------------------------------------------------------

    def _loss(self, microbatch: int, one: Instance) -> None:
        loss = self.graph.loss
        reads = [self._value(edge, one) for edge in self.incoming[self.count]]
        work = loss.forward.stacked(one.copies) + self._injected_by_reader(self.count, one)
        exact = not one.noisy and any(
            self.segmentation.joined(edge.source, self.count) for edge in self.incoming[self.count]
        )
        if exact and not self.options.loss_gradient:
            work = work + loss.input_gradient
        id_ = TaskId(self.count, "L", microbatch, one.group)
        task = self.draft.task(id_, reads, work=work, copies=one.copies)
        if one.noisy:
            self._store_noise(task, microbatch, one, self.count)
        size = Precision.FP32.bytes_for(self.graph.batch * one.copies)
        self.losses[one.group] = self._made(task, id_, "losses", Category.ACTIVATION, size)
        if not exact:
            return
        if self.options.loss_gradient:
            id_ = TaskId(self.count, "B", microbatch, one.group)
            task = self.draft.task(id_, [*reads, self.losses[one.group]], work=loss.input_gradient)
            self.loss_cells.append(task)
        for edge in self.incoming[self.count]:
            if self.segmentation.joined(edge.source, self.count):
                size = self.plan.activations.bytes_for(edge.elements)
                made = self._made(task, id_, f"d{edge.value}", Category.TEMP, size)
                self.upstream.setdefault((edge.value, one.group), []).append(made)

    # Gradients --------------------------------------------------------------------------------------------------

    def _exact_gradients(self, microbatch: int, clean: Instance) -> None:
        for stage in reversed(self.graph.stages):
            if self.segmentation.trainable[stage.index] and self.segmentation.is_exact(stage.index):
                self._bp_gradient(microbatch, clean, stage, clean.group)

    def _gradient_inputs(self, stage: int, group: int) -> list[int]:
        """Gradients of the stage's outputs that its consumers in the segment computed."""
        return [
            buffer
            for value in dict.fromkeys(edge.value for edge in self.outgoing[stage])
            for buffer in self.upstream.get((value, group), ())
        ]

    def _bp_gradient(self, microbatch: int, one: Instance, stage: Stage, group: int) -> None:
        """B, or I and W, of a stage whose cotangent comes from its consumers."""
        index, passes = stage.index, self.segmentation.passes[stage.index]
        reads = self._gradient_inputs(index, group) + self.kept.get((index, one.group), [])
        reads += [self._value(edge, one) for edge in self.incoming[index] if edge.saved_by_target]
        reads += [self.values[edge.value, one.group] for edge in self.outgoing[index] if edge.saved_by_source]
        after = [self.forwards[index, one.group]]
        through = stage.input_gradient if passes else stage.interior_gradient
        param = self.param[index]
        if param is not None:
            reads.insert(0, param)
        whole = through + stage.weight_gradient
        if not self.split or not (passes and stage.parameters):
            kind: Kind = "B" if not self.split else ("I" if passes else "W")
            id_ = TaskId(index, kind, microbatch, group)
            task = self.draft.task(id_, reads, after=after, work=whole.stacked(one.copies), copies=one.copies)
            self._finish_gradient(task, id_, stage, group, one, weights=True)
            return
        id_ = TaskId(index, "I", microbatch, group)
        task = self.draft.task(id_, reads, after=after, work=through.stacked(one.copies), copies=one.copies)
        self._finish_gradient(task, id_, stage, group, one, weights=False)
        deltas = self._made(
            task, id_, "deltas", Category.TEMP, self.plan.activations.bytes_for(stage.deltas * one.copies)
        )
        kept = [*self.kept.get((index, one.group), []), deltas]
        kept += [self._value(edge, one) for edge in self.incoming[index] if edge.saved_by_target]
        id_ = TaskId(index, "W", microbatch, group)
        task = self.draft.task(id_, kept, work=stage.weight_gradient.stacked(one.copies), copies=one.copies)
        self._finish_gradient(task, id_, stage, group, one, weights=True, passes=False)

    def _finish_gradient(
        self,
        task: int,
        id_: TaskId,
        stage: Stage,
        group: int,
        one: Instance,
        *,
        weights: bool,
        passes: bool = True,
    ) -> None:
        """Hand the gradients of the inputs to the stages above and add the weight gradient to its ordered sum."""
        if passes and self.segmentation.passes[stage.index]:
            for edge in self.incoming[stage.index]:
                joined = self.segmentation.joined(edge.source, stage.index)
                if joined and self.segmentation.trainable[edge.source]:
                    size = self.plan.activations.bytes_for(edge.elements * one.copies)
                    made = self._made(task, id_, f"d{edge.value}", Category.TEMP, size)
                    self.upstream.setdefault((edge.value, group), []).append(made)
        if weights and stage.parameters:
            partial = self.draft.buffer(
                f"{id_}:partial",
                Category.TEMP,
                self.plan.parameters.bytes_for(stage.parameters),
                stage.index,
                producer=task,
                accumulator=f"{stage.index}:grad",
                rank=len(self.partials[stage.index]),
            )
            self.partials[stage.index].append(partial)

    def _lr_gradient(self, microbatch: int, one: Instance, stage_index: int, group: int) -> None:
        """G of a segment's end, or B of a stage inside an LR segment, weighed by one instance's losses."""
        stage = self.graph.stages[stage_index]
        if self.segmentation.is_exact(stage_index) or not self.segmentation.trainable[stage_index]:
            return
        state = self.instances.clean if self.layerwise and self.instances.clean is not None else one
        if not self._is_exit(stage_index):
            self._bp_gradient(microbatch, state, stage, group)
            return
        passes = self.segmentation.passes[stage_index]
        kept = self.kept[stage_index, state.group]
        reads = self._gradient_inputs(stage_index, group) + kept
        if not kept:
            reads += [self._value(edge, state) for edge in self.incoming[stage_index]]
        param = self.param[stage_index]
        if param is not None and (passes or stage.recompute != NO_WORK):
            reads.append(param)
        reads += self._loss_reads(one) + self._noise_reads(stage_index, one) if one.noisy else self.sums[stage_index]
        work, encoded = self._gradient_work(stage, one, state, passes)
        id_ = TaskId(stage_index, "G", microbatch, group)
        after = [self.forwards[stage_index, state.group]]
        task = self.draft.task(id_, reads, after=after, work=work, encoded=encoded, copies=one.copies)
        self._finish_gradient(task, id_, stage, group, state, weights=True)

    def _gradient_work(self, stage: Stage, one: Instance, state: Instance, passes: bool) -> tuple[Work, Work]:
        """(work in the activation precision, product of codes) of a G task.

        Where the copies share one clean input (``state`` is not ``one``) their noise is summed first and multiplied
        once; otherwise the product runs over every copy.
        """
        through = stage.input_gradient if passes else stage.interior_gradient
        around = (stage.recompute + through).stacked(state.copies)
        product = stage.weight_gradient.stacked(state.copies)
        if not one.noisy:
            return around + product, NO_WORK
        elements = self._noise_elements(stage.index)
        drawing = NORMAL_FLOPS * elements * one.draws if self.plan.noise is Precision.REGENERATED else 0
        read = elements * one.copies
        weighing = Work(elementwise=drawing + read, activation_reads=read, launches=1)
        coded = self.plan.saved.bits < 16 and self.plan.noise.bits < 16
        if coded and stage.linear and not passes and state is one:
            return around + weighing, product
        return around + weighing + product, NO_WORK

    def _accumulate(self, microbatch: int, one: Instance, stage: int) -> None:
        """C: add one copy group's weighted noise into the stage's estimated cotangent."""
        elements = self._noise_elements(stage)
        regenerated = self.plan.noise is Precision.REGENERATED
        drawing = NORMAL_FLOPS * elements * one.draws if regenerated else 0
        work = Work(
            elementwise=drawing + 2 * elements * one.draws,
            activation_reads=elements * (1 if regenerated else 1 + one.draws),
            activation_writes=elements,
            launches=1,
        )
        id_ = TaskId(stage, "C", microbatch, one.group)
        reads = self._loss_reads(one) + self._noise_reads(stage, one)
        after = [] if reads else [self.forwards[max(one.stages), one.group]]
        task = self.draft.task(id_, reads, after=after, work=work, copies=one.copies)
        terms = self.sums.setdefault(stage, [])
        made = self.draft.buffer(
            f"{id_}:cotangent",
            Category.TEMP if terms else Category.ACTIVATION,
            Precision.FP32.bytes_for(elements),
            stage,
            producer=task,
            accumulator=f"{stage}:cotangent{microbatch}",
            rank=len(terms),
        )
        terms.append(made)

    def _loss_reads(self, one: Instance) -> list[int]:
        """The losses that weigh a copy group's noise, by the baseline."""
        if self.options.baseline == "copy-mean":
            # The mean runs over the copies of one segment's noise only.
            same = [other.group for other in self.instances.noisy if other.source == one.source]
        else:
            same = [one.group, *([0] if self.options.baseline == "clean" else [])]
        return [self.losses[group] for group in same if group in self.losses]

    def _noise_reads(self, stage: int, one: Instance) -> list[int]:
        stored = self.noise.get((stage, one.group))
        return [] if stored is None else [stored]

    # Updates ----------------------------------------------------------------------------------------------------

    def add_updates(self) -> None:
        """U of every stage with parameters, and the loss row's cell where it is asked for."""
        for stage in self.graph.stages:
            param = self.param[stage.index]
            if param is not None:
                touched = (2 + OPTIMIZER_STATES[self.options.optimizer]) * stage.parameters
                flops = UPDATE_FLOPS[self.options.optimizer] * stage.parameters
                work = Work(elementwise=flops, param_reads=touched, param_writes=stage.parameters, launches=1)
                self.draft.task(TaskId(stage.index, "U"), [param, *self.partials[stage.index]], work=work)
        if self.options.loss_update and self.loss_cells:
            self.draft.task(TaskId(self.count, "U"), [], after=self.loss_cells)

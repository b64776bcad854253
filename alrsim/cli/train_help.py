"""Help of a verb with many options: in groups, by the panel that each option names."""

from typing import Any

from typer.core import TyperCommand

PLAIN = "Options"


class GroupedCommand(TyperCommand):
    """Options under the headings that their ``rich_help_panel`` gives, in the order of first appearance."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Arguments first, then one section per group."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                kind = "Arguments" if parameter.param_type_name == "argument" else PLAIN
                groups.setdefault(getattr(parameter, "rich_help_panel", None) or kind, []).append(record)
        plain = groups.pop(PLAIN, [])
        for title, records in [*groups.items(), (PLAIN, plain)]:
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)

"""Which plan is best: cuts, placement, rule, copies and formats under a target, with a bound."""

"""What a task computes: one kernel per kind of task, the data that passes between tasks, and its ledger."""

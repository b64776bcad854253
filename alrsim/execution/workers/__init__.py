"""Who computes a task and how data gets there: threads, processes, ranks, CUDA streams, and their messages."""

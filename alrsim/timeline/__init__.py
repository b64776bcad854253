"""What happened, or will: spans, transfers and memory, simulated and measured alike; and the metrics of them."""

"""From a volume to labels: the model's contract, its session, batches and post-processing."""

"""Training: options, sampling, the two phases of a run, its log and what it leaves."""

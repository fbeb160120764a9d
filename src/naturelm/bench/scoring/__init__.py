"""What a run scored: the published metrics, and beside them what these leave out, with intervals and tests."""

"""Asking a system the questions of a suite: batches, time limits, a journal that survives being killed."""

"""Suites of questions about clips: BEANS-Zero from the hub or a folder, and the held-out part of a corpus."""

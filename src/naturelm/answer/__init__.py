"""Questions in, answers out: generation, scoring of closed sets, and the caches that they share."""

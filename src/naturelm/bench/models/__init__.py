"""Systems that the benchmark can ask, one file each; see `naturelm.bench.models.base` for what one has to do."""

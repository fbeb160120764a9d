"""From sound archives to instruction pairs: sources, taxonomy, tasks, procedural sound, shards."""

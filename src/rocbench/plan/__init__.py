"""From settings to what will be run: server groups, cells, ids, order, shards, and what they will cost."""

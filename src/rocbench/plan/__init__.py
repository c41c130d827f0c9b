"""The plan: server groups, cells, ids, order, shards and cost, made from the settings."""

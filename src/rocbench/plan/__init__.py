"""From settings to what will be run: server groups, cells, ids, order, and what binds them to a server and a load."""

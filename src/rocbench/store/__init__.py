"""The run folder: the only package that knows its paths and formats.

    results/<run-id>/
      manifest.json            versions, node, resolved configuration; no secrets
      plan.json                every server and cell, in order
      cells.csv, cells.parquet one row per cell and repeat
      requests.parquet         one row per request
      server_metrics.parquet   the server's /metrics, one row per reading and name
      gpu.parquet              one row per reading and GPU
      histograms.parquet       ITL and ICL, one row per bin
      timeline.parquet         output tokens per second of the window
      summary.csv              one row per cell and metric: mean, interval, CoV, n
      search.json              the state of each search for the load that meets an SLO
      parts/                   the same tables, one file per cell and repeat, as measured
      servers/<id>/            command.sh, environment.json, server.log, resolved.json
      log.jsonl                events, one per line
      replaced.jsonl           rows that were measured again, in their former state

Rows are written after each cell, because a later cell may fail, and atomically, because any process may die.
A cell exists when its row exists (parts/cells/): parts without a row belong to an interrupted cell, and are
never read.
"""

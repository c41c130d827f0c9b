"""The run folder: the only place that knows its paths and formats.

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
      parts/                   the same tables, one file per cell and repeat, as they were measured
      servers/<id>/            command.sh, environment.json, server.log, resolved.json
      log.jsonl                what happened, one line per event
      replaced.jsonl           rows that were measured again, as they were

Rows are written after each cell, because a later one may fail, and atomically, because anything may die. A cell is
there once its row is (parts/cells/): parts without a row are of a cell that was cut off, and are never read.
"""

"""What rows of real vLLM on the CPU must say, for tests."""

from __future__ import annotations

import pandas as pd

from sweeps import Ended

UNTRUE = {
    "no_measurement",
    "server_failed",
    "server_changed",
    "health_failed",
    "error_rate",
    "wrong_input_length",
    "wrong_output_length",
    "prefix_cache_hits",
    "token_count_disagrees",
    "server_differs_from_plan",
    "simulator_late",
    "above_hardware_limit",
}
"""Codes that cannot be true of a sound server here. Others may be: two cores are soon a limit, and answers few."""


def counted(ended: Ended, cell_id: str) -> tuple[int, int]:
    """Prompt and output tokens of a cell, image tokens in, as the client counted them: every request of the load."""
    requests = pd.read_parquet(ended.folder / "requests.parquet")
    mine = requests[requests["cell_id"] == cell_id]
    return int(mine["prompt_tokens"].sum()), int(mine["output_tokens"].sum())


def check_counts(ended: Ended) -> None:
    """In every row: no failure, no untrue reason, and the server's token counters exactly as the client's."""
    for row in ended.rows.to_dict("records"):
        what = f"{row['key']}: {row['reasons']}"
        assert not set(str(row["reasons"]).split(";")) & UNTRUE, what
        assert row["failed"] == 0, what
        assert row["completed"] > 0, what
        assert row["simulated"] == 0, what
        assert (row["server_prompt_tokens"], row["server_output_tokens"]) == counted(ended, row["cell_id"]), (
            what
        )

"""The verdict on a row: valid, invalid or unknown, with reason codes."""

"""From records to rows: metrics, columns and what they mean."""

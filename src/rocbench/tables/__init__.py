"""Conversion of records to rows: metrics, columns and their meaning."""

"""Predictions: a plan in virtual time, and efficiencies fitted to rows."""

"""Execution of a plan: each launch, each cell, the remaining runs, interrupts."""

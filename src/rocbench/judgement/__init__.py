"""From rows to decisions: better, worse, same, cannot tell."""

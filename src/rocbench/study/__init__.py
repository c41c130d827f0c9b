"""A published study replayed, corrected and predicted. The core does not know it: cli loads its commands by name."""

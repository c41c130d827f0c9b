"""The physical limits of a node, from a model's architecture and published hardware figures. Pure functions.

`layout` distributes a model over GPUs, `weights` and `kv` count bytes, `steps` times an engine step,
`roofline` bounds throughput. The docstrings have the formulas, docs/physics.md their derivation.
"""

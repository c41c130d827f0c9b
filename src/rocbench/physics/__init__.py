"""What a node can do at best, from a model's architecture and published hardware figures. Pure functions.

`layout` says how a model is spread, `weights` and `kv` count bytes, `steps` times an engine step, `roofline`
bounds throughput. Formulas stand in the docstrings, their derivation in docs/physics.md.
"""

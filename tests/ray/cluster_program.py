"""A Ray cluster on this machine, in a process of its own: prints its address and its nodes, ends one when told its id.

python cluster_program.py NODES
"""

from __future__ import annotations

import os
import sys

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

MEMORY = 80_000_000
"""Least object store that Ray takes, bytes: rows are small."""


def main() -> None:
    """A head without CPUs, and nodes that each have one `mi325x_node`."""
    from ray.cluster_utils import Cluster

    plain = {"object_store_memory": MEMORY, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **plain})
    nodes = {}
    for _ in range(int(sys.argv[1])):
        node = cluster.add_node(num_cpus=2, resources={"mi325x_node": 1}, **plain)
        nodes[node.node_id] = node
    sys.stdout.write(" ".join([cluster.address, *nodes]) + "\n")
    sys.stdout.flush()
    for line in sys.stdin:
        cluster.remove_node(nodes.pop(line.strip()), allow_graceful=False)
        sys.stdout.write("gone\n")
        sys.stdout.flush()
    cluster.shutdown()


if __name__ == "__main__":
    main()

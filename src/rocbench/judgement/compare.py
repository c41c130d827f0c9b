"""Two sets of measured cells -> better, worse, same, or cannot tell, per cell and metric. Pure.

Cells are matched by what they are: model, workload and load level, and whatever else tells the cells of one side
apart. What differs between the sides must be what is compared (version, flags, precision, ...): a difference that
makes figures incomparable (other hardware, another checkpoint, a simulated server, ...) is refused, by name.

The verdict of one cell and metric, with the effect's 95 % interval and p adjusted by Holm over all cells and metrics:

    same         the whole interval lies inside +- the minimum effect
    better/worse p < alpha, and the effect is at least the minimum effect
    cannot tell  anything else, and always with fewer than 2 repeats on a side
"""

from __future__ import annotations

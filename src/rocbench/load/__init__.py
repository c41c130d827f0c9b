"""The load generator: `drive(spec)` loads a server and returns a `LoadResult`. It does not launch servers."""

from rocbench.load.driver import drive
from rocbench.load.spec import LoadSpec, Progress

__all__ = ["LoadSpec", "Progress", "drive"]

"""The load generator: `drive(spec)` loads a server and gives a `LoadResult`. Nothing here launches a server."""

from rocbench.load.driver import drive
from rocbench.load.spec import LoadSpec, Progress

__all__ = ["LoadSpec", "Progress", "drive"]

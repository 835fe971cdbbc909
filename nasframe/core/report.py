"""Reports: what a run found, for people."""

from abc import ABC, abstractmethod
from pathlib import Path

from nasframe.registry import Registry


class Report(ABC):
    """Renders the report of a run."""

    @abstractmethod
    def write(self, run_dir: Path) -> Path:
        """Write the report of what `run_dir` holds into it; returns the file."""


reports: Registry[Report] = Registry("reports", Report)

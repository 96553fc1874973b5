"""Files of a run: result.json, timeline.csv, journal.jsonl, requests.csv.gz. Each is written as the run goes on.

A folder is never half a run's: files appear under their names when the run is over, and not at all when it failed.
A bill that was computed (`oracle`) has neither decisions nor requests, so it has no files of them.
"""

from __future__ import annotations

import gzip
import io
import os
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np

from autoscaler.common.errors import InputError
from autoscaler.common.escaping import csv_cell
from autoscaler.common.safe_files import check_no_link, create_output, make_output_folder, write_output
from policies.base import DeploymentKey
from simulator.kernel.outcomes import STATUS_NAMES, Ended
from simulator.result import to_json
from simulator.run import Outputs
from simulator.timeline import CsvSink, Sink, StripSink, Tee

_REQUEST_COLUMNS = (
    "arrival_s",
    "deployment",
    "prompt_tokens",
    "output_tokens",
    "ttft_s",
    "e2e_s",
    "mean_itl_s",
    "queue_s",
    "status",
)
_PART = ".part"
_TIMELINE, _JOURNAL, _REQUESTS = "timeline.csv", "journal.jsonl", "requests.csv.gz"
_ALL = (_TIMELINE, _JOURNAL, _REQUESTS, "result.json", "report.html")


class RequestsCsv:
    """Writes requests.csv.gz, the same bytes for the same requests."""

    def __init__(self, path: Path) -> None:
        self._raw = create_output(path)
        zipped = gzip.GzipFile(filename="", mode="wb", fileobj=self._raw, compresslevel=4, mtime=0)
        self._text = io.TextIOWrapper(zipped, encoding="utf-8", newline="\n")
        self._text.write(",".join(_REQUEST_COLUMNS) + "\n")

    def write(self, key: DeploymentKey, ended: Ended) -> None:
        name = csv_cell(str(key))
        numbers = [_cells(a) for a in (ended.ttft_s, ended.e2e_s, ended.mean_itl_s, ended.queue_s)]
        unfinished = ended.status == STATUS_NAMES.index("unfinished")
        for i, (arrival_s, prompt, output, status) in enumerate(
            zip(
                ended.arrival_s.tolist(),
                ended.prompt_tokens.tolist(),
                ended.output_tokens.tolist(),
                ended.status.tolist(),
                strict=True,
            )
        ):
            e2e_s = "" if unfinished[i] else numbers[1][i]
            cells = (f"{arrival_s:.4f}", name, prompt, output, numbers[0][i], e2e_s, numbers[2][i], numbers[3][i])
            self._text.write(",".join(map(str, cells)) + f",{STATUS_NAMES[status]}\n")

    def close(self) -> None:
        self._text.close()
        self._raw.close()


def _cells(values: np.ndarray[Any, np.dtype[np.float64]]) -> list[str]:
    """Seconds with a tenth of a millisecond; what never happened is empty."""
    return ["" if v != v else f"{v:.4f}" for v in values.tolist()]


def make_room(folder: Path, names: Sequence[str]) -> None:
    """A folder in which files of these names can be written. Called before the work: after it, the work would be lost,
    or some files would be new and some old. Errors: InputError naming the path; OSError.
    """
    make_output_folder(folder)
    for path in (folder / name for name in names):
        check_no_link(path)
        if path.is_dir():
            raise InputError(f"{path}: is a folder, and a file of the run has this name")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"{folder}: nothing can be written there; allowed: a folder of yours")


class RunFolder(AbstractContextManager["RunFolder"]):
    """The folder of one run; use as a context manager, then `finish` with the result."""

    def __init__(self, folder: Path, requests: bool) -> None:
        self.folder = folder
        self.strips = StripSink()
        make_room(folder, _ALL)
        self._stack = ExitStack()
        self._names = [_TIMELINE, _JOURNAL]
        self._timeline = self._stack.enter_context(CsvSink(self._part(_TIMELINE)))
        self._journal: IO[bytes] = self._stack.enter_context(create_output(self._part(_JOURNAL)))
        self._requests: RequestsCsv | None = None
        if requests:
            self._names.append(_REQUESTS)
            self._requests = RequestsCsv(self._part(_REQUESTS))
            self._stack.callback(self._requests.close)

    def _part(self, name: str) -> Path:
        return self.folder / f"{name}{_PART}"

    @property
    def outputs(self) -> Outputs:
        timeline: Sink = Tee([self._timeline, self.strips])
        return Outputs(timeline=timeline, requests=self._requests, journal=self._journal.write)

    def finish(self, document: dict[str, Any], report: str) -> tuple[str, ...]:
        """The run is over: give every file its name. What is left out, since nobody decided: names of files.

        A file that an earlier run left and this one does not write goes, too.
        """
        self._stack.close()
        left_out = () if self._part(_JOURNAL).stat().st_size else tuple(n for n in self._names if n != _TIMELINE)
        for name in left_out:
            self._part(name).unlink()
            self._names.remove(name)
        write_output(self._part("result.json"), to_json(document, indent=1) + "\n")
        write_output(self._part("report.html"), report)
        for name in (*self._names, "result.json", "report.html"):
            self._part(name).replace(self.folder / name)
        for name in (_TIMELINE, _JOURNAL, _REQUESTS):
            if name not in self._names:
                (self.folder / name).unlink(missing_ok=True)
        return left_out

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
        for name in (*self._names, "result.json", "report.html"):
            self._part(name).unlink(missing_ok=True)

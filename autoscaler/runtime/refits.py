"""Slow estimations of forecasters, beside the ticks: one deployment after the other, in a thread.

A forecaster that estimates parameters says when it is due and takes the result at a later step of its own, computed or
not (policies/forecasting/ensemble/refits.py); what is done here only spares the tick the work. Not for histories.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection

from policies.base import Forecaster

log = logging.getLogger("leadtime")


class Refits:
    """`start` at each tick; never waits and never raises."""

    def __init__(self) -> None:
        self._task: asyncio.Task[None] | None = None

    def start(self, forecasters: Collection[Forecaster]) -> None:
        """Begin with those that are due, unless a round is still under way."""
        if self._task is not None and not self._task.done():
            return
        due = [one for one in forecasters if one.needs_refit()]
        if due:
            self._task = asyncio.create_task(_compute(due))

    async def close(self) -> None:
        """Wait for the one that is being computed; the others are left."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)


async def _compute(due: Collection[Forecaster]) -> None:
    for forecaster in due:
        try:
            await asyncio.to_thread(forecaster.refit)
        except Exception as error:
            log.exception("a forecaster's refit failed: %s: %s", type(error).__name__, error)

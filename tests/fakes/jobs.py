"""A fake of Ray's Jobs API: it takes jobs, ends them, and does what `request_resources` in them would have done.

tests/live/test_live_request_resources.py holds it to a real Ray's answers.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

_BUNDLES = re.compile(r"bundle for n, bundle in (\[.*\]) for _ in range\(n\)\]\)'?$")


@dataclass
class FakeJobs:
    """`standing` are the bundles that count; `status` what the next jobs end as."""

    standing: list[dict[str, float]] = field(default_factory=list)
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    posts: list[dict[str, Any]] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    status: str = "SUCCEEDED"
    message: str = ""
    refuse: int | None = None
    """Answer everything with this status."""
    now_ms: int = 1_000_000
    url: str = ""

    @contextlib.asynccontextmanager
    async def serve(self) -> AsyncIterator[FakeJobs]:
        application = web.Application()
        application.add_routes(self.routes())
        runner = web.AppRunner(application, shutdown_timeout=0.1)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            yield self
        finally:
            await runner.cleanup()

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/api/jobs/", self._list),
            web.post("/api/jobs/", self._submit),
            web.delete("/api/jobs/{id}", self._delete),
        ]

    def lose_everything(self) -> None:
        """The head came back without what it knew."""
        self.standing, self.jobs = [], {}

    async def _list(self, request: web.Request) -> web.Response:
        if self.refuse is not None:
            return web.Response(status=self.refuse, text="no")
        return web.json_response(list(self.jobs.values()))

    async def _submit(self, request: web.Request) -> web.Response:
        if self.refuse is not None:
            return web.Response(status=self.refuse, text="no")
        body = await request.json()
        self.posts.append(body)
        submission = body["submission_id"]
        if submission in self.jobs:
            return web.Response(status=500, text=f"Job with submission_id {submission} already exists.")
        self.now_ms += 1000
        self.jobs[submission] = {
            "type": "SUBMISSION",
            "job_id": None,
            "submission_id": submission,
            "status": self.status,
            "entrypoint": body["entrypoint"],
            "message": self.message or "Job finished successfully.",
            "start_time": self.now_ms,
            "end_time": self.now_ms + 500 if self.status in ("SUCCEEDED", "FAILED") else None,
            "metadata": body.get("metadata", {}),
        }
        found = _BUNDLES.search(body["entrypoint"])
        if self.status == "SUCCEEDED" and found is not None:
            self.standing = [bundle for n, bundle in json.loads(found[1]) for _ in range(n)]
        return web.json_response({"job_id": submission, "submission_id": submission})

    async def _delete(self, request: web.Request) -> web.Response:
        submission = request.match_info["id"]
        self.deleted.append(submission)
        self.jobs.pop(submission, None)
        return web.json_response(True)

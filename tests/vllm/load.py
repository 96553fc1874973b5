"""Open-loop load on a vLLM server: each request is sent at its time whatever happens. Not for closed batches."""

from __future__ import annotations

import asyncio
import json
import random
import re
import time
from pathlib import Path

import aiohttp
import numpy as np

HEADER = "arrival_s,prompt_tokens,output_tokens,ttft_s,e2e_s,mean_itl_s,status"


def replay(url: str, model: str, count: int, rps: float, out: Path, seed: int = 1) -> None:
    """Poisson arrivals, log-normal lengths; writes the CSV that `leadtime fidelity` reads."""
    lines = asyncio.run(_replay(url, model, count, rps, seed))
    out.write_text("\n".join([HEADER, *lines]) + "\n")


async def _replay(url: str, model: str, count: int, rps: float, seed: int) -> list[str]:
    rng = np.random.default_rng(seed)
    arrivals_s = np.cumsum(rng.exponential(1 / rps, count))
    prompts = np.clip(rng.lognormal(np.log(90), 0.6, count), 8, 400).astype(int)
    outputs = np.clip(rng.lognormal(np.log(120), 0.5, count), 8, 400).astype(int)
    begun_s = time.perf_counter()
    timeout = aiohttp.ClientTimeout(total=300)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout) as session:
        return await asyncio.gather(
            *(
                _one(session, url, model, begun_s, a, p, o)
                for a, p, o in zip(arrivals_s.tolist(), prompts.tolist(), outputs.tolist(), strict=True)
            )
        )


async def _one(
    session: aiohttp.ClientSession, url: str, model: str, begun_s: float, at_s: float, prompt: int, output: int
) -> str:
    ids = [random.randrange(300, 2000) for _ in range(prompt)]
    body = {
        "model": model,
        "prompt": ids,
        "max_tokens": output,
        "min_tokens": output,
        "ignore_eos": True,
        "temperature": 0,
        "stream": True,
    }
    await asyncio.sleep(max(0.0, begun_s + at_s - time.perf_counter()))
    sent_s = time.perf_counter()
    times_s: list[float] = []
    async with session.post(f"{url}/v1/completions", json=body) as response:
        status = "ok" if response.status == 200 else f"http_{response.status}"
        async for raw in response.content:
            if raw.startswith(b"data: {") and json.loads(raw[6:]).get("choices"):
                times_s.append(time.perf_counter())
    ttft_s, e2e_s = times_s[0] - sent_s, times_s[-1] - sent_s
    itl_s = (e2e_s - ttft_s) / (output - 1)
    return f"{sent_s - begun_s:.5f},{prompt},{output},{ttft_s:.6f},{e2e_s:.6f},{itl_s:.7f},{status}"


async def counter(url: str, name: str) -> float:
    """The value of a counter of the server's /metrics."""
    async with aiohttp.ClientSession() as session, session.get(f"{url}/metrics") as response:
        found = re.search(rf"^{re.escape(name)}\{{[^}}]*\}} (\S+)$", await response.text(), re.MULTILINE)
    assert found, name
    return float(found[1])

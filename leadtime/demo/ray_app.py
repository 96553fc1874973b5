"""The demo's Serve application: an OpenAI-compatible ingress before one deployment of emulated engines per model.

Built like serve.llm's: a CPU-only ingress that hands each request to the deployment of its model and passes the stream
on. Imported by Ray's workers through `import_path`; not for the demo's own process.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

from ray import serve
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from leadtime.demo import openai_wire as wire
from leadtime.demo.engine import EngineLoop, WallEngine, demo_profile, start_s, without_compiling


def keep_to_loopback() -> None:
    """Have this replica's gRPC server, which Serve opens after our `__init__`, listen on the loopback alone.

    Ray 2.60 binds it to every interface, and it unpickles what it is sent: not on somebody's laptop.
    """
    from ray.serve._private import replica
    from ray.util import get_node_ip_address

    name, address_of_node = "add_port_to_grpc_server", cast(Callable[[], str], get_node_ip_address)
    own = address_of_node()
    own = own if own.startswith("127.") else "127.0.0.1"
    bind = getattr(replica, name, None)
    if bind is not None:
        setattr(replica, name, lambda server, address: bind(server, address.replace("[::]", own)))


@serve.deployment(
    ray_actor_options={"num_cpus": 0.05, "num_gpus": 1}, graceful_shutdown_wait_loop_s=1.0,
    graceful_shutdown_timeout_s=60.0,
)  # fmt: skip
class EmulatedEngine:
    """One replica: sleeps as long as a model takes to load, then answers as a loaded engine would."""

    def __init__(self, model: str, seed: int, least_start_s: float, most_start_s: float) -> None:
        began_s = time.monotonic()
        without_compiling()
        from leadtime.demo.ray_metrics import EngineMetrics

        replica_id = serve.get_replica_context().replica_id.unique_id
        takes_s = start_s(seed, replica_id, least_start_s, most_start_s)
        metrics = EngineMetrics(model, replica_id)
        keep_to_loopback()
        engine = WallEngine(demo_profile(), seed, began_s)
        self._loop = EngineLoop(engine, metrics)
        time.sleep(max(0.0, takes_s - (time.monotonic() - began_s)))

    async def generate(self, answer: wire.Answer) -> AsyncIterator[str]:
        """The answer's server-sent events (or, not streamed, its text), as tokens come out."""
        question = answer.question
        sent, opening = 0, answer.opening() if question.stream else ""
        async for tokens in self._loop.stream(question.prompt_tokens, question.output_tokens):
            text = "".join(wire.word(sent + i) for i in range(tokens))
            sent += tokens
            done = sent >= question.output_tokens
            if not question.stream:
                yield text
                continue
            event = opening + answer.chunk(text, "length" if done else None)
            opening = ""
            yield event + answer.closing() if done else event


@serve.deployment(ray_actor_options={"num_cpus": 0.05}, max_ongoing_requests=10_000, graceful_shutdown_wait_loop_s=0.2)
class OpenAiIngress:
    """Reads requests, finds the model's deployment, passes the stream on."""

    def __init__(self, engines: dict[str, Any]) -> None:
        keep_to_loopback()
        self._engines = {model: handle.options(stream=True) for model, handle in engines.items()}
        self._longest = demo_profile().limits.max_model_len
        self._created_s = int(time.time())

    async def __call__(self, request: Request) -> Response:
        path = request.url.path
        if path == wire.MODELS:
            return JSONResponse(wire.models(list(self._engines), self._created_s, self._longest))
        if path == "/health":
            return Response()
        try:
            if path not in (wire.COMPLETIONS, wire.CHAT_COMPLETIONS):
                raise wire.BadRequest(f"no such path: {path}", 404)
            question = wire.parse(path, await request.body(), self._longest)
            if question.model not in self._engines:
                raise wire.BadRequest(f"the model {question.model!r} does not exist", 404)
        except wire.BadRequest as error:
            return JSONResponse(wire.error(str(error), error.status), status_code=error.status)
        kind = "chatcmpl" if question.chat else "cmpl"
        answer = wire.Answer(f"{kind}-{uuid.uuid4().hex[:16]}", int(time.time()), question)
        stream = self._engines[question.model].generate.remote(answer)
        if question.stream:
            return StreamingResponse(stream, media_type="text/event-stream")
        return JSONResponse(answer.whole("".join([text async for text in stream])))


def build(args: dict[str, Any]) -> Any:
    """`args`: `models` (names, one deployment each), `seed`, `start_s` (least and most seconds of a cold start)."""
    least_s, most_s = args["start_s"]
    engine: Any = EmulatedEngine
    ingress: Any = OpenAiIngress
    engines = {m: engine.options(name=m).bind(m, args["seed"], least_s, most_s) for m in args["models"]}
    return ingress.bind(engines)

"""A fake of Google's container API: a gRPC server with the real messages, so that the real client talks to it.

Operations are under way until `finish`. What it cannot show is Google's own judgement: which changes it refuses, how
long they take, what it says of stock and quota.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.cloud import container_v1 as api
from google.cloud.container_v1.services.cluster_manager.transports import ClusterManagerGrpcAsyncIOTransport

_SERVICE = "google.container.v1.ClusterManager"
_STATUS = api.Operation.Status


@dataclass
class FakeGke:
    """One node pool. `fail` refuses the next call with a status; `quick` ends operations at once."""

    pool: api.NodePool
    operations: dict[str, api.Operation] = field(default_factory=dict)
    writes: list[Any] = field(default_factory=list)
    reads: int = 0
    quick: bool = True
    fail: tuple[grpc.StatusCode, str] | None = None
    port: int = 0

    @contextlib.asynccontextmanager
    async def serve(self) -> AsyncIterator[FakeGke]:
        server = grpc.aio.server()
        calls = {
            "GetNodePool": (self._get, api.GetNodePoolRequest, api.NodePool),
            "SetNodePoolAutoscaling": (self._autoscaling, api.SetNodePoolAutoscalingRequest, api.Operation),
            "SetNodePoolSize": (self._size, api.SetNodePoolSizeRequest, api.Operation),
            "GetOperation": (self._operation, api.GetOperationRequest, api.Operation),
        }
        handlers = {
            name: grpc.unary_unary_rpc_method_handler(
                call, request_deserializer=asked.deserialize, response_serializer=given.serialize
            )
            for name, (call, asked, given) in calls.items()
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE, handlers),))
        self.port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            yield self
        finally:
            await server.stop(None)

    def client(self) -> api.ClusterManagerAsyncClient:
        """The real client, without credentials or TLS."""
        channel = grpc.aio.insecure_channel(f"127.0.0.1:{self.port}")
        return api.ClusterManagerAsyncClient(transport=ClusterManagerGrpcAsyncIOTransport(channel=channel))

    def finish(self, error: str = "") -> None:
        """Every operation under way ends, well or with an error."""
        for operation in self.operations.values():
            if operation.status != _STATUS.DONE:
                operation.status = _STATUS.DONE
                if error:
                    operation.error = {"code": 8, "message": error}

    async def _refuse(self, context: Any, *, of_writes: bool) -> None:
        self.reads += not of_writes
        if self.fail is not None:
            await context.abort(*self.fail)
        busy = any(operation.status != _STATUS.DONE for operation in self.operations.values())
        if of_writes and busy:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "Cluster is running incompatible operation op-0.")

    async def _get(self, request: Any, context: Any) -> api.NodePool:
        await self._refuse(context, of_writes=False)
        assert request.name == "projects/p/locations/us-central1/clusters/c/nodePools/h100", request.name
        return self.pool

    async def _autoscaling(self, request: Any, context: Any) -> api.Operation:
        await self._refuse(context, of_writes=True)
        self.writes.append(request)
        scaling = request.autoscaling
        per_zone, total = bool(scaling.max_node_count), bool(scaling.total_max_node_count)
        if per_zone and total:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "total_max_node_count excludes max_node_count")
        self.pool.autoscaling = scaling
        return self._begun()

    async def _size(self, request: Any, context: Any) -> api.Operation:
        await self._refuse(context, of_writes=True)
        self.writes.append(request)
        self.pool.initial_node_count = request.node_count
        return self._begun()

    async def _operation(self, request: Any, context: Any) -> api.Operation:
        await self._refuse(context, of_writes=False)
        return self.operations[request.name.rpartition("/")[2]]

    def _begun(self) -> api.Operation:
        name = f"operation-{len(self.operations)}"
        status = _STATUS.DONE if self.quick else _STATUS.RUNNING
        self.operations[name] = api.Operation(name=name, status=status)
        return self.operations[name]

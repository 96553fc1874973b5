"""A Prometheus server: past traffic at start, and metrics of nodes out of reach."""

from __future__ import annotations

from pydantic import Field

from autoscaler.settings.document.blocks import words
from autoscaler.settings.kinds import MATCHERS, PathText, Url
from autoscaler.settings.sources.base import Parts, SourceBlock, Surroundings


class Prometheus(SourceBlock):
    """A Prometheus server that scrapes the Ray nodes."""

    PURPOSE = "Where past traffic, and metrics of nodes out of reach, are read; null = nowhere."
    EXTRA = "prometheus"

    url: Url = Field(description="Its address, with the path before /api/v1.", examples=["http://prometheus:9090"])
    token_file: PathText | None = Field(
        default=None, description="File with its bearer token; read again at each request."
    )
    ca_file: PathText | None = Field(
        default=None, description="File with the certificates (PEM) to trust for https instead of the system's."
    )
    match: str = Field(
        default="",
        pattern=MATCHERS,
        description="Label matchers that single out one Ray service; {namespace} and {service} are filled in.",
        examples=['namespace="{namespace}", ray_io_cluster=~"{service}-.*"'],
        json_schema_extra=words("PromQL label matchers, separated by commas"),
    )
    history_s: float = Field(
        default=7 * 86400.0,
        ge=0,
        le=35 * 86400,
        description="Seconds of past traffic that the forecaster is shown at start; 0 = none.",
    )
    signals: bool = Field(
        default=False,
        description="true = also take metrics from it where the pages of the Ray nodes cannot be read.",
    )
    timeout_s: float = Field(default=10.0, gt=0, le=60, description="Seconds after which a query is given up.")

    def parts(self, around: Surroundings) -> Parts:
        """Its metrics count where the pages of the nodes say nothing: it comes behind the sources that read those."""
        from autoscaler.sources.prometheus import PrometheusClient, PrometheusFleet, PrometheusHistory

        token_file, ca_file = around.path(self.token_file), around.path(self.ca_file)
        client = PrometheusClient(self.url.rstrip("/"), token_file, ca_file, self.timeout_s)
        sources = (PrometheusFleet(client, self.match, around.services),) if self.signals else ()
        past = PrometheusHistory(client, self.match) if self.history_s > 0 else None
        return Parts(sources, history=past, history_s=self.history_s)

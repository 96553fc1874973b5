"""An MQTT broker: announced demand in, plans out."""

from __future__ import annotations

import hashlib
import logging
import os
import socket
from collections.abc import Iterator

from pydantic import Field

from autoscaler.clients.mqtt import MqttBroker
from autoscaler.settings.document.blocks import words
from autoscaler.settings.document.problems import Complaint
from autoscaler.settings.kinds import PathText
from autoscaler.settings.sources.base import Parts, SourceBlock, Surroundings

log = logging.getLogger("leadtime")


class Mqtt(SourceBlock):
    """An MQTT broker where demand is announced, and plans are published."""

    PURPOSE = "Broker where demand is announced and plans are published; null = none."
    EXTRA = "mqtt"

    host: str = Field(
        pattern=r"^[^/@\s]+$", description="The broker.", json_schema_extra=words("a host or IP address"),
        examples=["mqtt.example.com"],
    )  # fmt: skip
    port: int | None = Field(default=None, ge=1, le=65535, description="Its port; null = 8883 with TLS, else 1883.")
    tls: bool = Field(default=True, description="false = unencrypted, the password too.")
    ca_file: PathText | None = Field(
        default=None, description="File with the certificates (PEM) to trust instead of the system's."
    )
    client_cert_file: PathText | None = Field(
        default=None,
        description="File with a certificate (PEM) that says who this is, for a broker that asks for one; read again "
        "at each connection.",
    )
    client_key_file: PathText | None = Field(
        default=None, description="File with its private key (PEM); null = it is in client_cert_file too."
    )
    username: str | None = Field(default=None, min_length=1, description="User to log in as; null = anonymous.")
    password_file: PathText | None = Field(
        default=None, description="File with the user's password; read again at each connection."
    )
    prefix: str = Field(
        default="leadtime",
        pattern=r"^[^/#+\s]+(/[^/#+\s]+)*$",
        max_length=200,
        description="What every topic begins with.",
        json_schema_extra=words("a topic without wildcards, such as leadtime or team/leadtime"),
    )
    max_rps_per_deployment: float = Field(
        default=1000.0, gt=0, le=1e6, description="Requests per second that hints may raise a deployment's demand to."
    )
    publish: bool = Field(default=True, description="Publish plans, and whether the controller is there.")
    identifier: str | None = Field(
        default=None,
        pattern=r"^[\x21-\x7e]{1,100}$",
        description="Name at the broker of a controller that runs alone, and of the session that the broker "
        "keeps for it, not with leader_election; null = in Kubernetes the release names the session, else none is.",
        json_schema_extra=words("up to 100 printable characters without spaces"),
    )
    timeout_s: float = Field(default=10.0, gt=0, le=60, description="Seconds to wait for an answer of the broker.")

    @property
    def hint_max_rps(self) -> float:
        return self.max_rps_per_deployment

    def check(self, elects: bool) -> Iterator[Complaint]:
        if self.password_file is not None and self.username is None:
            yield "password_file", "a password without a user; allowed: username beside it"
        if self.identifier is not None and elects:
            yield (
                "identifier",
                f"{self.identifier!r} with leader_election, so several processes would share one name and cut each "
                "other off; allowed: null (the release names the session, the pod the rest), or "
                "leader_election.enabled: false",
            )
        if self.ca_file is not None and not self.tls:
            yield "ca_file", "certificates without TLS; allowed: with tls: true"
        if self.client_cert_file is not None and not self.tls:
            yield "client_cert_file", "a certificate without TLS; allowed: with tls: true"
        if self.client_key_file is not None and self.client_cert_file is None:
            yield "client_key_file", "a key without a certificate; allowed: client_cert_file beside it"

    def parts(self, around: Surroundings) -> Parts:
        """Announced demand in, plans out."""
        from autoscaler.actuators.mqtt_plans import MqttPlansActuator
        from autoscaler.sources.mqtt_hints import MqttHintsSource

        broker = self._broker(around)
        if self.username is not None and not self.tls:
            log.warning("%s: tls is false, so the password travels unencrypted", broker.shown)
        source = MqttHintsSource(broker, around.hint_messages, leads=around.leads)
        return Parts((source,), (MqttPlansActuator(broker),) if self.publish else ())

    def _broker(self, around: Surroundings) -> MqttBroker:
        own = hashlib.sha256(f"{around.settings_path.absolute()} {self.prefix}".encode()).hexdigest()[:8]
        topics = hashlib.sha256(self.prefix.encode()).hexdigest()[:8]
        return MqttBroker(
            host=self.host,
            port=self.port or (8883 if self.tls else 1883),
            identifier=self.identifier or f"leadtime-{socket.gethostname()}-{os.getpid()}-{own}",
            tls=self.tls,
            ca_file=around.path(self.ca_file),
            client_cert_file=around.path(self.client_cert_file),
            client_key_file=around.path(self.client_key_file),
            username=self.username,
            password_file=around.path(self.password_file),
            prefix=self.prefix,
            timeout_s=self.timeout_s,
            release=self.identifier if around.release is None else f"{around.release}-{topics}",
        )

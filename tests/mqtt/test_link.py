"""Waiting between attempts, and words for what went wrong."""

from __future__ import annotations

import os
import random
import socket
import ssl
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from autoscaler.actuators.mqtt_plans import MqttPlansActuator
from autoscaler.api.telemetry import new_telemetry
from autoscaler.clients.mqtt import Backoff, MqttBroker, words_of
from autoscaler.common.errors import ConfigError
from autoscaler.settings import load_config
from autoscaler.sources.mqtt_hints import MqttHintsSource
from autoscaler.wiring.ports import other_parts
from tests.fakes.kubernetes.tls import loopback_certificate


def test_waits_double_up_to_the_longest_and_begin_again() -> None:
    backoff = Backoff(first_s=1.0, most_s=10.0, random=lambda: 0.0)
    assert [backoff.next_s() for _ in range(6)] == [1.0, 2.0, 4.0, 8.0, 10.0, 10.0]
    backoff.reset()
    assert backoff.next_s() == 1.0


def test_waits_are_spread_so_that_many_controllers_do_not_meet() -> None:
    seed = random.Random(1)
    waits = [Backoff(first_s=8.0, random=seed.random).next_s() for _ in range(200)]
    assert min(waits) < 4.2
    assert max(waits) > 7.8
    assert all(4.0 <= wait <= 8.0 for wait in waits)


def test_waits_never_overflow() -> None:
    backoff = Backoff(random=lambda: 0.0)
    assert [backoff.next_s() for _ in range(5000)][-1] == 60.0


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ConnectionRefusedError(111, "Connection refused"), "connection refused"),
        (OSError("[Errno -2] Name or service not known"), "the host name is not known"),
        (OSError("[code:135] Not authorized"), "it refused the login (not authorized)"),
        (ssl.SSLCertVerificationError("certificate verify failed: self-signed"), "the TLS certificate is not trusted"),
        (ssl.SSLError("[SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:1006)"), "no TLS at this port"),
        (TimeoutError("timed out"), "no answer in time"),
        (OSError("[Errno 113] No route to host"), "no route to host"),
        (OSError(), "oserror"),
        (ConfigError("password_file x: no such file or directory"), "password_file x: no such file or directory"),
    ],
)
def test_what_went_wrong_is_said_in_one_line(error: Exception, words: str) -> None:
    assert words_of(error).startswith(words)


def test_secrets_are_read_anew_and_never_shown(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    broker = MqttBroker("b", 8883, "me", username="u", password_file=file)
    with pytest.raises(ConfigError, match="no such file"):
        broker.password()
    file.write_text("first pass phrase\n")
    assert broker.password() == "first pass phrase"
    file.write_text("second")
    assert broker.password() == "second"
    file.write_text("hunter2\nhunter3\n")
    with pytest.raises(ConfigError, match="expected one line") as caught:
        broker.password()
    assert "hunter" not in str(caught.value)


def test_a_certificate_of_our_own_is_shown_and_a_locked_key_asks_nobody(tmp_path: Path) -> None:
    authority, _ = loopback_certificate(tmp_path)
    key = tmp_path / "server.key"
    mine = MqttBroker("b", 8883, "me", ca_file=authority, client_cert_file=authority, client_key_file=key)
    assert mine.tls_context() is not None
    both = tmp_path / "both.pem"
    both.write_text(authority.read_text() + key.read_text())
    assert MqttBroker("b", 8883, "me", client_cert_file=both).tls_context() is not None
    with pytest.raises(ConfigError, match=r"client_cert_file .*ca\.crt: "):
        MqttBroker("b", 8883, "me", client_cert_file=authority).tls_context()
    unlocked = serialization.load_pem_private_key(key.read_bytes(), None)
    lock = serialization.BestAvailableEncryption(b"hunter2")
    key.write_bytes(unlocked.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, lock))
    with pytest.raises(ConfigError, match=r"client_cert_file .* with client_key_file .*server\.key: "):
        mine.tls_context()


def test_a_certificate_file_that_is_none_is_named(tmp_path: Path) -> None:
    file = tmp_path / "ca.crt"
    file.write_text("no certificate")
    with pytest.raises(ConfigError, match=r"ca_file .*ca\.crt: "):
        MqttBroker("b", 8883, "me", ca_file=file).tls_context()


@pytest.mark.parametrize(
    ("more", "release"),
    [
        ("mqtt: {host: b}\n", None),
        ("mqtt: {host: b, identifier: mine}\n", "mine"),
        (
            "mqtt: {host: b}\nleader_election: {enabled: true}\nkubernetes: {namespace: llm, name: prod}\n",
            "leadtime-llm-prod-",
        ),
    ],
)
def test_the_session_is_named_by_the_release_and_never_by_the_pod(
    tmp_path: Path, more: str, release: str | None
) -> None:
    path = tmp_path / "lt.yaml"
    path.write_text(f'version: 1\nservices: [{{dashboard: "http://127.0.0.1:1"}}]\n{more}', encoding="utf-8")
    config = load_config(path)
    (parts,) = other_parts(config, None, new_telemetry(config.controller), lambda: True)
    (source,), (plans,) = parts.sources, parts.actuators
    assert isinstance(source, MqttHintsSource)
    assert isinstance(plans, MqttPlansActuator)
    broker = source.link.broker
    assert (broker.release or "").startswith(release or "")
    assert (broker.release is None) == (release is None)
    assert broker.release is None or socket.gethostname() not in broker.release
    if release == "leadtime-llm-prod-":
        assert f"-{os.getpid()}-" in broker.identifier, "followers and plans: of the process"

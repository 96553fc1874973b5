"""aiomqtt's client, with a bound on the memory that one packet of the broker may take.

A packet of MQTT may have 256 MB, and the library beneath (paho) collects and copies it whole before anybody sees its
length. MQTT 5 lets a client refuse long packets, but a broker that honours it may then go silent for that client
(docs/decisions/0035), so what is too long is cut here, while it is read. Only here, in sources/mqtt_hints.py and in
actuators/mqtt_plans.py is aiomqtt used.
"""

from __future__ import annotations

from typing import Any

import aiomqtt

MOST_PACKET_BYTES = 128 * 1024
"""A hint may have 16 KiB (hint_messages.MOST_BYTES), and its topic 64 KiB by the protocol."""
_PIECE_BYTES = 64 * 1024


class Client(aiomqtt.Client):
    """Of a packet that is longer than MOST_PACKET_BYTES the beginning is kept, so that its topic can be told and it is
    acknowledged; the rest is read and dropped."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        below = self._client
        receive = below._sock_recv

        def receive_bounded(bufsize: int) -> bytes:
            packet = below._in_packet
            piece = receive(min(bufsize, _PIECE_BYTES))
            if len(packet["packet"]) < MOST_PACKET_BYTES or not piece:
                return piece
            packet["to_process"] -= len(piece) - 1  # the library counts, and keeps, the one byte that it is given
            return piece[:1]

        below._sock_recv = receive_bounded  # type: ignore[method-assign]

"""How long one engine step takes, from what is in it.

    step_s = a + b*B + c*K + d*P + e*QK + h*[P > 0] + g(B + P)

B decoding sequences, K tokens of KV that they attend to, P prefill tokens in the step, QK the prefill's attention work
(sum over chunks of chunk * (cached + chunk/2)), g a piecewise-linear table in scheduled tokens. Two forms: `affine`
(g = 0) and `table` (d = 0). Host time is not in here: the profile says how it adds up.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class StepLaw:
    """Coefficients in seconds (per sequence, token, token^2); `knots` are (scheduled tokens, seconds), ascending.

    Between knots g is linear, before the first it has the first value, after the last it keeps the last slope.
    """

    form: Literal["affine", "table"]
    a_s: float
    b_s: float = 0.0
    c_s: float = 0.0
    d_s: float = 0.0
    e_s: float = 0.0
    h_s: float = 0.0
    knots: tuple[tuple[float, float], ...] = ()

    def step_s(self, decodes: float, kv_tokens: float, prefill_tokens: float = 0.0, prefill_qk: float = 0.0) -> float:
        """Seconds of engine time of one step; all arguments >= 0, `prefill_qk` in tokens^2."""
        seconds = self.a_s + self.b_s * decodes + self.c_s * kv_tokens
        if prefill_tokens > 0:
            seconds += self.d_s * prefill_tokens + self.e_s * prefill_qk + self.h_s
        if self.knots:
            seconds += self.table_s(decodes + prefill_tokens)
        return seconds

    def table_s(self, tokens: float) -> float:
        """g: the part of a step that depends on how many tokens are scheduled in it."""
        knots = self.knots
        i = bisect_right(knots, (tokens, float("inf")))
        if i == 0:
            return knots[0][1]
        if i == len(knots):
            if i == 1:
                return knots[0][1]
            i -= 1
        (x0, y0), (x1, y1) = knots[i - 1], knots[i]
        return y0 + (y1 - y0) * (tokens - x0) / (x1 - x0)

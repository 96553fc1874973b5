"""What no engine can be: steps of many seconds (milliseconds written as seconds), a longest request beyond its memory.

Bounds are far from everything measured, so that they catch a slip of a thousand and no slow machine. Not for the form
of a profile's keys: profile.py.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from policies.base.errors import PolicyError
from policies.capacity.profile import Limits, StepLaw

LONE_STEP_S = 2.0
"""A step for one sequence reads the weights once. The slowest preset takes 0.023 s; 16 GB (8B in 16 bits) out of
memory at 40 GB/s 0.4 s. At 2 s a token an answer of 200 tokens takes 7 minutes: nobody serves that."""
FULL_STEP_S = 10.0
"""A step for all that the engine takes at once: 0.64 s in the slowest preset. In it nobody gets a token."""
OUTSIDE_S = 0.5
"""CPU time of one step: 1.5 ms as measured."""
API_S = 2.0
"""A request's time outside the engine: 5 to 10 ms as measured."""


def check_times(law: StepLaw, host_s: float, api_s: float, limits: Limits, source: str) -> None:
    """Errors: PolicyError naming the key whose seconds are thousands of what an engine takes."""
    seqs, kv, budget = limits.max_num_seqs, limits.kv_tokens, limits.max_num_batched_tokens
    values = {f"step.{name}": getattr(law, name) for name in ("a_s", "b_s", "c_s", "d_s", "e_s", "h_s")}
    values |= {"step.knots": law.table_s(1) if law.knots else 0.0}
    lone = {name: values[name] for name in ("step.a_s", "step.b_s", "step.c_s", "step.h_s", "step.knots")}
    _bounded(lone, values, LONE_STEP_S, "a step for one sequence", source)
    _bounded({"step.host_s": host_s}, {"step.host_s": host_s}, OUTSIDE_S, "the CPU time of a step", source)
    _bounded({"api_s": api_s}, {"api_s": api_s}, API_S, "a request's time outside the engine", source)
    full = {"step.a_s": law.a_s, "step.b_s": law.b_s * seqs, "step.c_s": law.c_s * kv}
    knots = {"step.knots": law.table_s(seqs) if law.knots else 0.0}
    _bounded(full | knots, values, FULL_STEP_S, f"a step of {seqs} sequences with {kv} tokens of KV", source)
    prompt = {
        "step.a_s": law.a_s,
        "step.h_s": law.h_s,
        "step.d_s": law.d_s * budget,
        "step.e_s": law.e_s * budget**2 / 2,
    }
    knots = {"step.knots": law.table_s(budget) if law.knots else 0.0}
    _bounded(prompt | knots, values, FULL_STEP_S, f"a step of {budget} prompt tokens", source)


def _bounded(parts: Mapping[str, float], values: Mapping[str, float], most_s: float, what: str, source: str) -> None:
    total_s = sum(parts.values())
    if total_s <= most_s:
        return
    key = max(parts, key=lambda name: parts[name])
    said = "" if key == "step.knots" else f": {values[key]:g}"
    raise PolicyError(
        f"{source}: {key}{said}; {what} would take {total_s:.3g} s, and no engine that serves takes more than "
        f"{most_s:g} s; allowed: seconds (are these milliseconds? then a thousandth of them)"
    )


def held_tokens(limits: Limits) -> int:
    """Tokens in whole blocks of the KV cache: what the longest request may have."""
    return limits.kv_tokens // limits.block_size * limits.block_size


def with_longest(limits: Limits, said: Collection[str], source: str) -> Limits:
    """vLLM does not start unless one request of `max_model_len` fits in its KV cache.

    One that nobody `said` is then what fits. Errors: PolicyError for one that was.
    """
    most = held_tokens(limits)
    if limits.max_model_len <= most or most == 0:  # not even a block: refused elsewhere
        return limits
    if "max_model_len" in said:
        raise PolicyError(
            f"{source}: limits.max_model_len: {limits.max_model_len}; its KV cache holds {most} tokens (kv_tokens "
            f"{limits.kv_tokens} in whole blocks of {limits.block_size}), and vLLM does not start unless one request "
            f"of max_model_len fits; allowed: at most {most}, or more kv_tokens"
        )
    return replace(limits, max_model_len=most)

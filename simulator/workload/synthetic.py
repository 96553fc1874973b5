"""Made-up traffic: a day, a week, spikes at fixed times, random bursts and noise, as a rate per bin.

For scenarios that ship (traces do not) and for `leadtime trace generate`. Pure: the same spec and seed give the same
numbers, and a longer `duration_s` keeps those of a shorter one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from simulator.kernel.draws import component_seed
from simulator.workload.traces import Floats, RateTrace

_DAY_S = 86400.0
_BURST_LENGTH = 12.0
"""Number of decay times after which a burst is dropped (e^-12 of it is left)."""


@dataclass(frozen=True, slots=True)
class Day:
    """A daily wave: rate = base * (1 + amplitude * cos) with its top at `peak_hour` (0..24, hours after time 0)."""

    amplitude_fraction: float = 0.0
    peak_hour: float = 13.0


@dataclass(frozen=True, slots=True)
class Spike:
    """A planned jump: `factor` times the rate for `width_s`, first at `at_s`, then every `every_s` (None: once)."""

    at_s: float
    width_s: float
    factor: float
    every_s: float | None = None


@dataclass(frozen=True, slots=True)
class Bursts:
    """Unplanned ones: Poisson in time, up to `factor` times the rate at once, fading with `decay_s`.

    Tenants that name the same `shared` meet the same bursts (with the same `per_day`, at the same moments).
    """

    per_day: float
    factor: float
    decay_s: float = 300.0
    shared: str | None = None


@dataclass(frozen=True, slots=True)
class MixKnot:
    """From `at_s` on prompts and outputs are longer by these factors, linear between two knots."""

    at_s: float
    prompt_factor: float = 1.0
    output_factor: float = 1.0


@dataclass(frozen=True, slots=True)
class Synthetic:
    """The whole recipe. `noise_fraction`: standard deviation of a log-normal factor per bin, of mean 1."""

    bin_s: float
    duration_s: float
    base_rps: float
    day: Day = Day()
    week: tuple[float, ...] = ()
    spikes: tuple[Spike, ...] = ()
    bursts: Bursts | None = None
    noise_fraction: float = 0.0
    mix: tuple[MixKnot, ...] = ()


def generate_for(spec: Synthetic, seed: int, component: str) -> RateTrace:
    """`generate` with the component's own stream; shared bursts come from the stream of their name."""
    shared = spec.bursts.shared if spec.bursts is not None else None
    common = None if shared is None else component_seed(seed, f"synthetic bursts/{shared}")
    return generate(spec, component_seed(seed, component), common)


def generate(
    spec: Synthetic, seed: np.random.SeedSequence, shared_bursts: np.random.SeedSequence | None = None
) -> RateTrace:
    """The rate of each bin (requests/s). Every part draws from a stream of its own."""
    burst_seed, noise_seed = seed.spawn(2)
    burst_seed = shared_bursts or burst_seed
    bins = max(round(spec.duration_s / spec.bin_s), 1)
    starts: Floats = np.arange(bins, dtype=np.float64) * spec.bin_s
    middle: Floats = starts + spec.bin_s / 2
    wave: Floats = np.cos(2 * np.pi * (middle / 3600 - spec.day.peak_hour) / 24)
    rps: Floats = spec.base_rps * (1 + spec.day.amplitude_fraction * wave)
    if spec.week:
        rps = rps * np.asarray(spec.week)[(middle // _DAY_S).astype(int) % len(spec.week)]
    for spike in spec.spikes:
        rps = rps * (1 + (spike.factor - 1) * _overlap(starts, spec.bin_s, spike))
    if spec.bursts is not None:
        rps = rps * _bursts(middle, spec.bursts, spec.duration_s, np.random.default_rng(burst_seed))
    if spec.noise_fraction > 0:
        sigma = float(np.sqrt(np.log1p(spec.noise_fraction**2)))
        normal = np.random.default_rng(noise_seed).standard_normal(bins)
        rps = rps * np.exp(sigma * normal - sigma**2 / 2)
    prompt_factor, output_factor = _mix(spec.mix, middle)
    return RateTrace(
        "synthetic",
        0.0,
        spec.bin_s,
        np.maximum(rps, 0.0),
        prompt_factor=prompt_factor,
        output_factor=output_factor,
    )


def _mix(knots: tuple[MixKnot, ...], middle: Floats) -> tuple[Floats | None, Floats | None]:
    if not knots:
        return None, None
    at_s = [knot.at_s for knot in knots]
    prompt: Floats = np.interp(middle, at_s, [knot.prompt_factor for knot in knots])
    output: Floats = np.interp(middle, at_s, [knot.output_factor for knot in knots])
    return prompt, output


def _overlap(starts: Floats, bin_s: float, spike: Spike) -> Floats:
    """Share of each bin that lies within the spike."""
    since = starts - spike.at_s
    if spike.every_s is None:
        return _covered(since, bin_s, spike.width_s)
    begun = since + bin_s > 0
    since = np.where(begun, since % spike.every_s, since)
    # A bin may begin before a repetition and end in it: it then overlaps the next one as well.
    covered = _covered(since, bin_s, spike.width_s) + _covered(since - spike.every_s, bin_s, spike.width_s)
    return np.where(begun, covered, 0.0)


def _covered(since: Floats, bin_s: float, width_s: float) -> Floats:
    overlap_s: Floats = np.clip(np.minimum(since + bin_s, width_s) - np.maximum(since, 0.0), 0.0, bin_s)
    return overlap_s / bin_s


def _bursts(middle: Floats, bursts: Bursts, duration_s: float, rng: np.random.Generator) -> Floats:
    """The factor on each bin; gaps are drawn one after another, so a longer run keeps the earlier bursts."""
    factor = np.ones(len(middle))
    at_s = 0.0
    while bursts.per_day > 0:
        at_s += rng.exponential(_DAY_S / bursts.per_day)
        height = (bursts.factor - 1) * rng.random()
        if at_s >= duration_s:
            break
        low, high = np.searchsorted(middle, [at_s, at_s + _BURST_LENGTH * bursts.decay_s])
        factor[low:high] += height * np.exp(-(middle[low:high] - at_s) / bursts.decay_s)
    return factor

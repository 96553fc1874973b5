"""Keys of a deployment's traffic: where requests come from, what was seen before, and what is announced."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from autoscaler.settings.document.blocks import Block, Name, words
from simulator.scenario.kinds import MAX_DURATION_S, MAX_SCALE, Fraction, PathText, Tokens
from simulator.workload.synthetic import Bursts, Day, MixKnot, Spike, Synthetic


class DayBlock(Block):
    """A daily wave."""

    amplitude_fraction: Fraction = Field(default=0.0, description="Height of the wave over its mean.")
    peak_hour: float = Field(default=13.0, ge=0, le=24, description="Hours after time 0 at which it is highest.")


class SpikeBlock(Block):
    """A jump at a fixed time."""

    at_s: float = Field(ge=0, description="When it begins.")
    width_s: float = Field(gt=0, description="How long it lasts.")
    factor: float = Field(ge=0, description="What the rate is multiplied by.")
    every_s: float | None = Field(default=None, gt=0, description="Seconds from one to the next; null = once.")


class BurstsBlock(Block):
    """Jumps at random times."""

    per_day: float = Field(ge=0, description="How many a day, on average.")
    factor: float = Field(
        ge=1, description="The most that the rate is multiplied by; each burst draws its own share of it."
    )
    decay_s: float = Field(default=300.0, gt=0, description="Seconds after which 1/e of a burst is left.")
    shared: Name | None = Field(
        default=None, description="Deployments that name the same here meet the same bursts; null = its own."
    )


class MixKnotBlock(Block):
    """Lengths at one moment; a straight line leads from one to the next."""

    at_s: float = Field(ge=0, description="When.")
    prompt_factor: float = Field(default=1.0, gt=0, le=1000, description="Prompts are so many times as long.")
    output_factor: float = Field(default=1.0, gt=0, le=1000, description="Outputs are so many times as long.")


class SyntheticBlock(Block):
    """Made-up traffic; time 0 is midnight of the week's first day."""

    bin_s: float = Field(default=60.0, gt=0, description="Seconds over which the rate is constant.")
    duration_s: float = Field(gt=0, le=MAX_DURATION_S, description="Seconds of traffic.")
    base_rps: float = Field(ge=0, description="Mean requests per second before everything below.")
    day: DayBlock = Field(default=DayBlock(), description="A daily wave.")
    week: list[Annotated[float, Field(ge=0)]] = Field(
        default=[],
        max_length=7,
        description="A factor per day of the week.",
        json_schema_extra=words("7 factors >= 0"),
    )
    spikes: list[SpikeBlock] = Field(default=[], description="Jumps at fixed times.")
    bursts: BurstsBlock | None = Field(default=None, description="Jumps at random times.")
    noise_fraction: float = Field(default=0.0, ge=0, le=5, description="Standard deviation of each bin's rate over it.")
    mix: list[MixKnotBlock] = Field(default=[], description="How lengths shift with time.")
    prompt_tokens: Tokens | None = Field(default=None, description="Length of prompts.")
    output_tokens: Tokens | None = Field(default=None, description="Length of outputs.")

    def spec(self) -> Synthetic:
        return Synthetic(
            self.bin_s,
            self.duration_s,
            self.base_rps,
            Day(self.day.amplitude_fraction, self.day.peak_hour),
            tuple(self.week),
            tuple(Spike(s.at_s, s.width_s, s.factor, s.every_s) for s in self.spikes),
            Bursts(**self.bursts.model_dump()) if self.bursts else None,
            self.noise_fraction,
            tuple(MixKnot(**knot.model_dump()) for knot in sorted(self.mix, key=lambda k: k.at_s)),
        )


class WorkloadBlock(Block):
    """Where a deployment's requests come from: exactly one of requests, rates and synthetic."""

    requests: PathText | None = Field(default=None, description="A requests trace (CSV, .gz).")
    rates: PathText | None = Field(default=None, description="A rates trace (CSV, .gz).")
    synthetic: SyntheticBlock | None = Field(default=None, description="Made-up traffic.")
    start_s: float | None = Field(
        default=None,
        ge=0,
        description="The trace's time that becomes the scenario's time 0; null = 0, or where a trace's times count "
        "from 1970, the first row of all such traces.",
    )
    rate_scale: float = Field(default=1.0, gt=0, le=MAX_SCALE, description="Traffic times this.")
    repeat: bool = Field(default=False, description="Begin again where the trace ends.")
    prompt_tokens: Tokens | None = Field(default=None, description="Length of prompts, for rates and synthetic.")
    output_tokens: Tokens | None = Field(default=None, description="Length of outputs, for rates and synthetic.")


class HistoryBlock(Block):
    """What the forecaster saw before the start; rows at or after workload.start_s are never read."""

    rates: PathText | None = Field(default=None, description="A rates trace on the workload file's clock.")
    requests: PathText | None = Field(default=None, description="A requests trace on the workload file's clock.")
    workload: bool = Field(default=False, description="true: the workload's own traffic before workload.start_s.")
    rate_scale: float | None = Field(
        default=None, gt=0, le=MAX_SCALE, description="Its own scale; null = workload.rate_scale."
    )


class HintBlock(Block):
    """Planned demand that somebody announces."""

    at_s: float = Field(ge=0, description="When it is announced.")
    start_s: float = Field(ge=0, description="When it begins.")
    end_s: float = Field(gt=0, description="When it ends.")
    rps: float | None = Field(default=None, ge=0, description="Requests per second that are expected.")
    multiplier: float | None = Field(default=None, ge=0, description="Or: times the forecast.")
    confidence_fraction: Fraction = Field(default=1.0, description="How sure the announcement is.")

"""A policy for Ray Serve's autoscaler that follows leadtime's plan; for the image that Ray runs in.

One file, standard library only: install the wheel, or copy it to where Ray imports from. In a Serve config:

    autoscaling_config:
      min_replicas: 1
      max_replicas: 8
      upscale_delay_s: 0
      downscale_delay_s: 0
      policy:
        policy_function: "leadtime_serve_policy:LeadtimePolicy"
        policy_kwargs: {plan: "http://leadtime.llm:8080", service: "llm/chat-llm"}

Serve's controller calls the policy ten times a second, so the plan is read by a thread, and an answer is a look at
what that thread read last. A plan that is older than three of its periods counts for nothing: then Serve's default
rule decides (in-flight requests over target_ongoing_requests, with the two delays below). After an outage levels may
only rise until plans have come in for three periods. Nothing that is read, or not read, raises inside the controller.

It decides nothing of its own and needs neither Ray nor leadtime to be imported. docs/serve-policy.md tells more.
"""

from __future__ import annotations

import json
import logging
import math
import os
import ssl
import stat
import threading
import time
import urllib.error
import urllib.request
import weakref
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

PLAN_PATH = "/api/v1/plan"
PERIODS_UNTIL_STALE = 3
"""A plan older than so many of its own periods is not followed."""
PERIODS_UNTIL_SETTLED = 3
"""After an outage plans must have come in for so many periods before one may lower a level."""
SERVE_UPSCALE_DELAY_S, SERVE_DOWNSCALE_DELAY_S = 30.0, 600.0
"""The delays of Serve's default rule."""

NOT_READ_YET = "no plan was read yet"

_LONGEST_BYTES = 4 * 1024 * 1024
_MOST_REPLICAS = 100_000
_LONGEST_PERIOD_S = 3600.0
_TRIES = 6
"""Several controllers stand behind one address, and only the leader has targets: ask so often before giving up."""
_SAY_AGAIN_S = 60.0
"""Another reason for the same thing is logged at most so often."""
_EPSILON_S = 1e-6
_LOG = logging.getLogger("ray.serve")


class PlanError(ValueError):
    """The plan cannot be read, or what was read is none. One line, without secrets."""


# ---------------------------------------------------------------- settings


class PolicySettings(NamedTuple):
    """What `policy_kwargs` may say."""

    plan: str = ""
    """The controller's address (http://HOST:PORT), or the absolute path of a file that holds the plan."""
    service: str = ""
    """NAMESPACE/SERVICE of this Ray cluster in the controller's deployment keys; empty = the only one that fits."""
    token_file: str | None = None
    """File with a bearer token, where the controller or a proxy before it wants one; read again at each request."""
    ca_file: str | None = None
    """File with the certificates (PEM) to trust for https instead of the system's."""
    timeout_s: float = 2.0
    """After which a read is given up."""
    upscale_delay_s: float = SERVE_UPSCALE_DELAY_S
    """Of Serve's default rule, while there is no plan."""
    downscale_delay_s: float = SERVE_DOWNSCALE_DELAY_S
    """Of Serve's default rule, while there is no plan."""


def settings_of(kwargs: Mapping[str, Any]) -> tuple[PolicySettings, list[str]]:
    """The settings, and what is wrong with them in words: a key, its value, what is allowed."""
    problems = [
        f"policy_kwargs.{key}: unknown; allowed: {', '.join(PolicySettings._fields)}"
        for key in kwargs if key not in PolicySettings._fields
    ]  # fmt: skip
    known = {key: value for key, value in kwargs.items() if key in PolicySettings._fields}
    for key, value in list(known.items()):
        wrong = _wrong(key, value)
        if wrong:
            problems.append(f"policy_kwargs.{key}: {wrong}")
            del known[key]
    if "plan" not in kwargs:
        problems.append("policy_kwargs.plan: missing; allowed: http://HOST:PORT, or the absolute path of a file")
    return PolicySettings(**known), problems


def _wrong(key: str, value: Any) -> str | None:
    if key.endswith("_s"):
        number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        lowest = 0.05 if key == "timeout_s" else 0.0
        return None if number and lowest <= value <= 86400 else f"{value!r}; allowed: {lowest:g} .. 86400 seconds"
    if key.endswith("_file"):
        return None if value is None or _is_path(value) else f"{value!r}; allowed: an absolute path"
    if key == "service":
        named = isinstance(value, str) and (not value or (value.count("/") == 1 and all(value.split("/"))))
        return None if named else f"{value!r}; allowed: NAMESPACE/SERVICE"
    return None if _is_path(value) or _is_address(value) else (
        f"{_shown(value)!r}; allowed: http://HOST:PORT or https://HOST:PORT without user or query, "
        "or the absolute path of a file"
    )  # fmt: skip


def _shown(value: Any) -> str:
    return str(value).rpartition("@")[2]  # what stands before an @ may be a password


def _is_path(value: Any) -> bool:
    return isinstance(value, str) and value.startswith("/")


def _is_address(value: Any) -> bool:
    if not isinstance(value, str):
        return False
    try:
        parts = urlsplit(value)
        _ = parts.port
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname) and not (
        parts.username or parts.password or parts.query or parts.fragment
    )  # fmt: skip


# ---------------------------------------------------------------- the plan


class PublishedPlan(NamedTuple):
    """What `/api/v1/plan` said."""

    issued_at_s: float
    period_s: float
    targets: Mapping[str, int]
    """Deployment key -> replicas."""
    held: frozenset[str]
    """Deployments that the controller knows and leaves alone: paused, or unknown for the moment."""
    acts: bool
    """False: a dry run, or not the leader; its targets are not for following."""
    paused: frozenset[str] = frozenset()
    """Of those held, the ones that a person paused."""


def parse_plan(text: bytes) -> PublishedPlan:
    """Errors: PlanError. One part that is not as it should be makes the whole unusable."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        raise PlanError("it is not JSON") from None
    if not isinstance(document, dict):
        raise PlanError("it is not a JSON object")
    if document.get("version") != 1:
        raise PlanError(f"version {str(document.get('version'))[:20]}: this policy knows version 1")
    issued_at_s, period_s = _number(document, "issued_at_s"), _number(document, "period_s")
    if not 0 < period_s <= _LONGEST_PERIOD_S:
        raise PlanError(f"period_s is not within 0 .. {_LONGEST_PERIOD_S:g}")
    targets, held, withheld = document.get("targets"), document.get("held", []), document.get("withheld", {})
    if not isinstance(targets, dict) or not isinstance(withheld, dict) or not isinstance(held, list):
        raise PlanError("targets or withheld is no object, or held is no list")
    for key, count in targets.items():
        if not isinstance(count, int) or isinstance(count, bool) or not 0 <= count <= _MOST_REPLICAS:
            raise PlanError(f"the target of {key[:200]!r} is not within 0 .. {_MOST_REPLICAS}")
    paused = document.get("paused", [])
    if not isinstance(paused, list) or not all(isinstance(key, str) for key in (*held, *paused)):
        raise PlanError("held or paused holds something else than keys")
    acts = document.get("acts", bool(targets) or not withheld) is True
    return PublishedPlan(issued_at_s, period_s, targets, frozenset(held), acts, frozenset(paused))


def _number(document: Mapping[str, Any], name: str) -> float:
    value = document.get(name)
    if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) < 1e15:
        raise PlanError(f"{name} is no number")
    return float(value)


class Sighting(NamedTuple):
    """A plan that may be followed, and when it was seen (monotonic seconds)."""

    plan: PublishedPlan
    seen_at_s: float
    age_then_s: float
    """How old it was when it was seen; 0 for one that was seen to follow another."""
    run_since_s: float
    """Since when plans have come in without a gap."""

    def is_fresh(self, now_s: float) -> bool:
        return now_s - self.seen_at_s + self.age_then_s <= PERIODS_UNTIL_STALE * self.plan.period_s + _EPSILON_S

    def is_settled(self) -> bool:
        """Whether plans came in without a gap for long enough, up to this one."""
        return self.seen_at_s - self.run_since_s + _EPSILON_S >= PERIODS_UNTIL_SETTLED * self.plan.period_s


def sighting(before: Sighting | None, plan: PublishedPlan, now_s: float, wall_s: float) -> Sighting | None:
    """What counts after `plan` was read at `now_s` (monotonic; `wall_s` is the wall clock's word for it).

    Age is counted here, from the moment when a plan was seen to be newer than the one before, so that the clocks of
    two machines need not agree. Only of the first one, and the first after an outage, its date is believed. An older
    one than the last (a controller that hangs beside its successor) is passed over.
    """
    if not plan.acts:
        return before
    if before is not None and before.is_fresh(now_s):
        if plan.issued_at_s <= before.plan.issued_at_s:
            return before
        return Sighting(plan, now_s, 0.0, before.run_since_s)
    if before is not None and plan.issued_at_s == before.plan.issued_at_s:
        return before
    newer = before is not None and plan.issued_at_s > before.plan.issued_at_s
    age_s = 0.0 if newer else max(0.0, wall_s - plan.issued_at_s)
    return Sighting(plan, now_s, age_s, now_s)


# ---------------------------------------------------------------- reading it


class PlanReader:
    """Reads the plan again and again in a thread of its own, which holds no reference to the policy."""

    def __init__(
        self, settings: PolicySettings,
        clock_s: Callable[[], float] = time.monotonic, wall_s: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        self._settings = settings
        namespace = settings.service.partition("/")[0]
        self._query = f"?namespace={quote(namespace, safe='')}" if namespace else ""
        self._clock_s, self._wall_s = clock_s, wall_s
        self._stop = threading.Event()
        self.seen: Sighting | None = None
        self.why = NOT_READ_YET
        """Why the last read brought nothing to follow; empty when it did."""

    def start(self) -> None:
        threading.Thread(target=self._run, name="leadtime-plan", daemon=True).start()

    def stop(self) -> None:
        self._stop.set()

    def read_once(self) -> None:
        """One look at the plan; never raises."""
        try:
            for _ in range(_TRIES):
                plan = parse_plan(self._text())
                self.seen = sighting(self.seen, plan, self._clock_s(), self._wall_s())
                if plan.acts:
                    self.why = ""
                    return
            self.why = "leadtime does not act (a dry run, or no leader)"
        except PlanError as error:
            self.why = f"{self._settings.plan}: {error}"
        except Exception as error:  # whatever it is, it must end neither the thread nor Serve's controller
            self.why = f"{self._settings.plan}: {type(error).__name__}"

    def _run(self) -> None:
        while True:
            self.read_once()
            period_s = self.seen.plan.period_s if self.seen is not None else 3.0
            if self._stop.wait(min(5.0, max(0.1, period_s / 3))):
                return

    def _text(self) -> bytes:
        """Errors: PlanError."""
        if _is_path(self._settings.plan):
            return _file_text(self._settings.plan)
        request = urllib.request.Request(self._settings.plan.rstrip("/") + PLAN_PATH + self._query)
        if self._settings.token_file is not None:
            request.add_unredirected_header("Authorization", f"Bearer {_token(self._settings.token_file)}")
        deadline_s = self._clock_s() + self._settings.timeout_s
        try:
            opener = urllib.request.build_opener(*self._handlers())
            with opener.open(request, timeout=self._settings.timeout_s) as answer:
                parts, size = [], 0
                while part := answer.read1(1 << 16):
                    parts.append(part)
                    size += len(part)
                    if size > _LONGEST_BYTES:
                        raise PlanError(f"the answer is longer than {_LONGEST_BYTES >> 20} MiB")
                    if self._clock_s() > deadline_s:
                        raise PlanError(f"no whole answer within {self._settings.timeout_s:g} s")
        except urllib.error.HTTPError as error:
            error.close()
            raise PlanError(f"answered {error.code}") from None
        except urllib.error.URLError as error:
            raise PlanError(_connection_problem(error.reason)) from None
        return b"".join(parts)

    def _handlers(self) -> list[urllib.request.BaseHandler]:
        """No proxy from the environment, no redirect: the token goes nowhere else."""
        handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({}), _NoRedirect()]
        if self._settings.ca_file is not None:
            try:
                context = ssl.create_default_context(cafile=self._settings.ca_file)
            except (OSError, ssl.SSLError) as error:
                raise PlanError(f"ca_file {self._settings.ca_file}: {_file_problem(error)}") from None
            handlers.append(urllib.request.HTTPSHandler(context=context))
        return handlers


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


def _file_text(path: str) -> bytes:
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise PlanError("no plain file")
        with open(path, "rb") as file:
            text = file.read(_LONGEST_BYTES + 1)
    except OSError as error:
        raise PlanError(_file_problem(error)) from None
    if len(text) > _LONGEST_BYTES:
        raise PlanError(f"longer than {_LONGEST_BYTES >> 20} MiB")
    return text


def _token(path: str) -> str:
    """Errors: PlanError naming the file, never its content."""
    try:
        token = _file_text(path).decode().strip()
    except (PlanError, UnicodeDecodeError) as error:
        raise PlanError(f"token_file {path}: {error if isinstance(error, PlanError) else 'no text'}") from None
    if not token or not token.isascii() or not token.isprintable():
        raise PlanError(f"token_file {path}: expected one line with a token")
    return token


def _file_problem(error: Exception) -> str:
    words = error.strerror if isinstance(error, OSError) else None
    return words.lower() if words else type(error).__name__


def _connection_problem(reason: object) -> str:
    if isinstance(reason, ssl.SSLError):
        return "the TLS certificate is not trusted (ca_file?)"
    if isinstance(reason, TimeoutError):
        return "no answer in time"
    return _file_problem(reason) if isinstance(reason, OSError) else "no connection"


# ---------------------------------------------------------------- Serve's default rule


class ServeRule:
    """What Serve's default policy answers, its delays included; one instance for each deployment."""

    def __init__(self, upscale_delay_s: float, downscale_delay_s: float) -> None:
        self._upscale_delay_s, self._downscale_delay_s = upscale_delay_s, downscale_delay_s
        self._wants_more: bool | None = None
        self._since_s: float | None = None

    def forget(self) -> None:
        """Waiting begins anew."""
        self._wants_more, self._since_s = None, None

    def replicas(self, running: int, level: int, requests: float, target_ongoing: float, now_s: float) -> int:
        """The level to have: `level` is the one in force, `requests` are queued or running in all."""
        if running == 0:
            return level  # Serve itself starts the first one when requests wait
        wanted = running * (requests / (target_ongoing * running))
        number = max(0, math.ceil(running + (wanted - running)))
        if number == level:
            self.forget()
            return level
        if self._wants_more is not (number > level):
            self._wants_more, self._since_s = number > level, None
        self._since_s = now_s if self._since_s is None else self._since_s
        if number < level and level != 1:
            number = max(1, number)  # to one first; to zero is a wait of its own
        delay_s = self._upscale_delay_s if self._wants_more else self._downscale_delay_s
        if now_s - self._since_s + _EPSILON_S < delay_s:
            return level
        self.forget()
        return number


# ---------------------------------------------------------------- the policy


class LeadtimePolicy:
    """What Serve's controller makes one of for each deployment and calls as `policy(ctx)`.

    Keyword arguments are the fields of PolicySettings. Wrong ones do not raise (Serve's controller could not start
    again with them): they are logged, `leadtime doctor` names them, and Serve's default rule decides.
    """

    def __init__(self, **kwargs: Any) -> None:
        settings, problems = settings_of(kwargs)
        self._service = settings.service
        self._rule = ServeRule(settings.upscale_delay_s, settings.downscale_delay_s)
        self._clock_s: Callable[[], float] = time.monotonic
        self._reader = PlanReader(settings)
        self._said, self._said_at_s = "", -math.inf
        self._started = bool(problems)
        if problems:
            self._reader.why = "; ".join(problems)
            _LOG.error("leadtime: %s; Serve's default rule decides", self._reader.why)
        weakref.finalize(self, self._reader.stop)

    def __call__(self, ctx: Any) -> tuple[int, dict[str, Any]]:
        """The level that the deployment of `ctx` (Serve's AutoscalingContext) should have, and no state."""
        try:
            if not self._started:
                self._started = True
                self._reader.start()
            return self._decide(ctx), {}
        except Exception as error:
            self._say(ctx, f"keeps the level: {type(error).__name__}: {error}", logging.ERROR)
            return ctx.target_num_replicas, {}

    def _decide(self, ctx: Any) -> int:
        now_s, seen, level = self._clock_s(), self._reader.seen, int(ctx.target_num_replicas)
        name = f"{ctx.app_name}/{ctx.deployment_name}"
        if seen is None or not seen.is_fresh(now_s):
            why = self._reader.why or f"the plan is older than {PERIODS_UNTIL_STALE} periods"
            return self._default(ctx, level, why, now_s)
        key, why = _key_of(seen.plan, self._service, name)
        if key is None:
            return self._default(ctx, level, why, now_s)
        self._rule.forget()
        if key in seen.plan.held:
            self._say(ctx, "keeps the level: leadtime leaves it alone (paused, or not known now)", logging.INFO)
            return level
        wanted = seen.plan.targets[key]
        if wanted == 0 and ctx.total_num_requests > 0:
            wanted = 1
        if wanted < level and not seen.is_settled():
            self._say(ctx, "follows leadtime's plan upwards; downwards when it has come in for a while", logging.INFO)
            return level
        if seen.is_settled():
            self._say(ctx, "follows leadtime's plan", logging.INFO)
        return wanted

    def _default(self, ctx: Any, level: int, why: str, now_s: float) -> int:
        level_of = logging.INFO if why == NOT_READ_YET else logging.WARNING
        self._say(ctx, f"Serve's default rule decides: {why}", level_of)
        target_ongoing = float(ctx.config.get_target_ongoing_requests())
        requests = float(ctx.total_num_requests)
        return self._rule.replicas(int(ctx.current_num_replicas), level, requests, target_ongoing, now_s)

    def _say(self, ctx: Any, words: str, level: int) -> None:
        if words == self._said:
            return
        now_s, same = self._clock_s(), words.partition(":")[0] == self._said.partition(":")[0]
        if same and now_s - self._said_at_s < _SAY_AGAIN_S and NOT_READ_YET not in self._said:
            return
        self._said, self._said_at_s = words, now_s
        _LOG.log(level, "leadtime: %s/%s: %s", ctx.app_name, ctx.deployment_name, words)


def _key_of(plan: PublishedPlan, service: str, name: str) -> tuple[str | None, str]:
    """The plan's key for APP/DEPLOYMENT, else why there is none."""
    keys = {*plan.targets, *plan.held}
    if service:
        wanted = (f"{service}/{name}", name) if service == "default/local" else (f"{service}/{name}",)
        found = [key for key in wanted if key in keys]
    else:
        found = [key for key in keys if key == name or key.endswith("/" + name)]
    if len(found) == 1:
        return found[0], ""
    if found:
        return None, f"the plan has {len(found)} deployments {name}: set policy_kwargs.service to NAMESPACE/SERVICE"
    return None, f"the plan does not name {service + '/' if service else ''}{name}"

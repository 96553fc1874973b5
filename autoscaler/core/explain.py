"""A decision in one sentence, for the journal, the terminal and the live page. Pure text from a plan's own figures."""

from __future__ import annotations

from collections.abc import Sequence

from autoscaler.core.types import GuardRecord
from policies.base import Term


def sentence(
    current: int | None,
    target: int | None,
    terms: Sequence[Term],
    guards: Sequence[GuardRecord],
    blocked: str | None = None,
    dry_run: bool = False,
) -> str:
    """What happens and why: "4 → 7: ..."; guards that changed the number have the last word before the losing terms."""
    limiting = [g for g in guards if g.before != g.after]
    why = terms[0].why if terms else ""
    if limiting:
        last = limiting[-1]
        wanted = f"the policy wants {terms[0].wants} ({why})" if terms else "the policy wants another number"
        why = f"{last.why}; {wanted}"
    if target is None:
        return "left alone: " + ("; ".join(g.why for g in guards) or "nothing is known of it")
    if current is None or current == target:
        head = f"stays at {target}"
    else:
        head = f"{current} → {target}"
    text = f"{head}: {why}" if why else head
    if blocked:
        return f"{text}; not applied: {blocked}"
    return f"{text} (dry run: not applied)" if dry_run and current != target else text

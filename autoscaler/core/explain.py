"""One sentence for a decision, for the journal, the terminal and the live page. Pure text from the
plan's own figures.
"""

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
    """The change and its reasons: "4 → 7: ...". Guards that changed the number come before the terms that lost."""
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

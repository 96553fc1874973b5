"""Rivals: other projects' autoscalers, re-stated one to one. Each keeps its own period, metrics and memory."""

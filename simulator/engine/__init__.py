"""One vLLM engine, compiled: what it runs next, how long that takes, and what comes of it.

How it reads: `stepping` is the engine's life, one event after another. It asks `schedule` what runs next, `law` how
long a step takes and `outcome` what a finished one leaves behind; `requests` and `blocks` keep the queues and the KV
cache, `account` the counters, and `show` tells what telemetry would see. All of them work on the one block of memory
that `layout` describes, and `jit` compiles them. Which engine gets a request, and who drives all this from Python, is
`simulator.dataplane`.
"""

"""Leak scripts: what an operation leaves behind, counted over many cycles.

    python -m tests.isolated                  every script, each in its own process
    python -m tests.isolated connection tls   only these
    python -m tests.isolated --loop asyncio   the control

A script is a function of scripts.py. It runs in rounds of some hundred cycles; after
each round the garbage is collected and these are counted: objects that the collector
knows, blocks of Python's allocator, bytes in use of malloc (libuv's and our own), open
descriptors, and on a debug build of Python the references. What grows in every round
is a leak.
"""

"""CPython's own test_asyncio, run on the loop under test.

    python -m tests.conformance                     every module, on asynccore
    python -m tests.conformance --subset            the quick part, as CI runs it
    python -m tests.conformance -m test_streams -k cancel
    python -m tests.conformance --loop asyncio:SelectorEventLoop    the control

The tests are those of the interpreter that runs this (its package `test`). Each module
runs in a worker process of its own; a test that hangs or ends the process is recorded,
and the rest of its module goes on in a new worker. What may fail, and why, stands in
exempt.txt.
"""

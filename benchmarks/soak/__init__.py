"""The load of `make soak`: clients of every kind, run by Locust.

Locust has gevent patch the process that it runs in, so that process is one of its own, started by
`reliability.soak`; of this package only `report` may be imported elsewhere.
"""

"""The real servers beside the service in a hospital: a database, an object store, a balancer.

Each module starts one on loopback for a block, and `missing()` says what must be installed first.
"""

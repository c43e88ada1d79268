"""`make fault`: the service is killed, stopped, cut off, starved of disk and lied to.

    make fault                   each part once, for as little as it takes
    make fault MINUTES=10        most of the time for the stream over several processes
    make fault SECONDS=60        the same, shorter
    make fault SEED=3            other moments

Two streams of jobs, each beside somebody who strikes at random (`stream`): over several workers
and APIs on PostgreSQL and a bucket, and on one process with SQLite. Then rounds (`rounds`,
`clients`) on one process: `kill -9`; SIGTERM while jobs run; a full disk; clients that leave, lie
about lengths, send slowly or speak no HTTP, beside a good client that must always get its answer.
What was accepted must succeed once, and what is kept of it must equal an undisturbed run byte for
byte.
"""

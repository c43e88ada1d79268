"""What the service does with damage, death and load: `make fuzz`, `make fault`, `make soak`.

Each checks the real thing for a bounded time and ends with an error where the service was wrong;
docs/reliability.md says what they found. They use the helpers of `tests/`, which the Makefile puts
on the path.
"""

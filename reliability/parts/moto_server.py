"""moto's server, made to create an object only once, as S3 does.

moto 5.2 looks whether there is such an object and then writes it, and two requests at once may both
find none: of 20 objects of 6 MB that eight clients created at once, 9 had several winners.
"""

import threading
from typing import Any

from moto.s3.responses import S3Response
from moto.server import main

_one_at_a_time = threading.Lock()
_put_object = S3Response.put_object


def put_object(self: S3Response) -> tuple[int, dict[str, Any], str | bytes]:
    """The body has arrived: no slow client holds up the others."""
    with _one_at_a_time:
        return _put_object(self)


if __name__ == "__main__":
    S3Response.put_object = put_object  # type: ignore[method-assign]
    main()

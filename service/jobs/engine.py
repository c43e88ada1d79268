"""The durable engine: each job is a DBOS workflow, whose finished steps are not done again.

Which process works on a job, the registry decides. The first to do so starts the workflow; another,
after that one died or handed the job back, has the engine resume it on a queue of its own. DBOS
keeps which steps are done, never a volume.
"""

from collections.abc import Callable
from typing import Any

from dbos import DBOS, DBOSConfig, DBOSPortableJSONSerializer, SetWorkflowID, WorkflowStatus
from dbos._serialization import DefaultSerializer
from sqlalchemy import make_url
from sqlalchemy.exc import DBAPIError, OperationalError

from service.database import SQLITE_ARGUMENTS
from service.errors import StorageFull, Unavailable

WORKFLOW = "segmentation"

FORMAT = "3"
"""Of what is written down of a job; a service goes on with unfinished jobs of its own format."""

_ATTEMPTS = 1_000_000
"""The engine's own bound of attempts, never reached: the registry counts those that matter."""

_POLL_S = 1.0
"""How long until a resumed workflow is found."""

_RESUMABLE = ("PENDING", "ENQUEUED", "DELAYED", "CANCELLED")
"""The engine's words for a workflow that has not ended."""


def _refuse(_: DefaultSerializer, __: str) -> Any:  # noqa: ANN401  # as it is declared
    raise TypeError("Expected a row in JSON, found a pickle.")


# A row names its own serializer: whoever can write to the database could have a pickle loaded here.
DefaultSerializer.deserialize = _refuse  # type: ignore[assignment, method-assign]  # there is no setting


class Engine:
    """DBOS in this process, which it exists in once. Methods block."""

    def __init__(self, url: str, executor: str, work: Callable[[str], None] | None) -> None:
        """`work` is what a job's workflow does, None where none runs. Raises `Unavailable`."""
        self._works = work is not None
        self._queue = f"executor {executor}"
        DBOS(config=_config(url, executor))

        @DBOS.workflow(name=WORKFLOW, max_recovery_attempts=_ATTEMPTS)
        def workflow(job_id: str) -> None:
            if work is not None:
                work(job_id)

        self._workflow = workflow
        try:
            DBOS.listen_queues([self._queue])
            DBOS.launch()
            self.open_queue()
        except DBAPIError as error:
            self.close()
            raise Unavailable("Expected the database to answer, found it unreachable.") from error
        except BaseException:
            self.close()
            raise

    def open_queue(self) -> None:
        """Listen for what this process resumes; again, where it was taken for dead meanwhile."""
        if self._works:
            DBOS.register_queue(
                self._queue, polling_interval_sec=_POLL_S, on_conflict="always_update"
            )

    def start(self, job_id: str, is_first: bool) -> None:
        """Begin a job's workflow in this process, or go on with it."""
        if not is_first:
            status = DBOS.get_workflow_status(job_id)
            if status is not None and _is_resumable(status):
                DBOS.resume_workflow(job_id, queue_name=self._queue)
                return
            self.forget(job_id)  # of an earlier job with its id, or of another format
        with SetWorkflowID(job_id):
            DBOS.start_workflow(self._workflow, job_id)

    def forget(self, job_id: str) -> None:
        """Delete what is noted of a job. Raises `StorageFull`."""
        try:
            DBOS.delete_workflow(job_id)
        except OperationalError as error:  # SQLite's word for a full disk
            raise StorageFull("Expected room to note that the job is deleted.") from error

    def forget_executor(self, executor: str) -> None:
        """Delete the queue of a process that died."""
        DBOS.delete_queue(f"executor {executor}")

    @staticmethod
    def close() -> None:
        DBOS.destroy(destroy_registry=True)


def _is_resumable(status: WorkflowStatus) -> bool:
    return status.status in _RESUMABLE and status.app_version == FORMAT


def _config(url: str, executor: str) -> DBOSConfig:
    is_sqlite = url.startswith("sqlite")
    arguments: dict[str, Any] = {"connect_args": dict(SQLITE_ARGUMENTS)} if is_sqlite else {}
    return {
        "name": "liver-tumor-segmentation",
        "system_database_url": make_url(url).render_as_string(hide_password=False),
        "db_engine_kwargs": arguments,
        "sys_db_pool_size": 8,
        "serializer": DBOSPortableJSONSerializer(),  # the default one stores pickles
        "application_version": FORMAT,
        "executor_id": executor,
        "use_listen_notify": False,
        # Nothing here listens for notifications; this is how long the engine takes to end.
        "notification_listener_polling_interval_sec": 0.25,
        "log_level": "CRITICAL",
        "console_log_level": "CRITICAL",
    }

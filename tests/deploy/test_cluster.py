"""Profile `cluster`: PostgreSQL, a bucket, API replicas behind nginx, and workers that may die."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from deploy.engine import Project, engine, project, until
from deploy.guide import commands

pytestmark = [pytest.mark.deploy, pytest.mark.real_ct]

JOBS = 4


@pytest.fixture(scope="module")
def cluster(
    image: str, cluster_images: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Project]:
    """Two workers, each of which works on one volume at once."""
    with project(
        tmp_path_factory.mktemp("cluster"), COMPOSE_PROFILES="cluster", LTS_SINGLE="0",
        LTS_IMAGE=image, LTS_MAX_RUNNING="1", LTS_THREADS="1", LTS_DEAD_S="5", **cluster_images,
    ) as found:  # fmt: skip
        found.make_secrets()
        found.up("--scale", "worker=2")
        found.wait_ready()
        yield found


def query(cluster: Project, statement: str, database: str = "lts") -> str:
    login = "PGPASSWORD=$(cat /run/secrets/postgres_password) psql -h 127.0.0.1 -U lts -tA -c"
    return cluster.execute("sh", "-c", f'{login} "{statement}" {database}', service="postgres")


def working(cluster: Project) -> int:
    """How many processes hold a running job, as the database has it."""
    count = "SELECT count(DISTINCT executor) FROM lts_jobs WHERE status = 'running'"
    return int(query(cluster, count))


def test_it_scales(cluster: Project) -> None:
    """Two workers and two APIs run, and the single service does not."""
    assert len(cluster.containers("worker")) == 2
    assert len(cluster.containers("api")) == 2
    assert cluster.containers("service") == []


def test_database_and_bucket_are_reached_by_members_alone(cluster: Project) -> None:
    """Neither publishes a port, and the proxy cannot even resolve their names."""
    for name in ("postgres", "store"):
        assert "->" not in engine("port", cluster.container(name))
        assert cluster.execute("getent", "hosts", name, service="nginx", check=False) == ""


def test_one_worker_lost(cluster: Project, real_ct: Path) -> None:
    """Both work, one is killed: every job that was accepted ends with its result."""
    study = real_ct.read_bytes()
    jobs = [cluster.submit(study) for _ in range(JOBS)]
    until(lambda: working(cluster) == 2, 60, "both workers at work")
    engine("kill", cluster.containers("worker")[0])
    ended = [cluster.ended(job, within_s=600) for job in jobs]
    assert [job["status"] for job in ended] == ["succeeded"] * JOBS
    volumes = {job["findings"]["liver"]["volume_ml"] for job in ended}
    assert len(volumes) == 1


def test_stateless_answer(cluster: Project, real_ct: Path) -> None:
    """POST /v1/segment on a replica that runs no model: a worker has the answer."""
    answer = requests.post(
        f"{cluster.url}/v1/segment",
        real_ct.read_bytes(),
        headers={"Content-Type": "application/zip"},
        timeout=600,
    )
    assert answer.status_code == 200, answer.text
    assert 600 < answer.json()["findings"]["liver"]["volume_ml"] < 3000


def test_one_api_lost(cluster: Project) -> None:
    """The proxy asks the other replica, without a client's seeing it."""
    engine("kill", cluster.containers("api")[0])
    answers = {requests.get(f"{cluster.url}/v1/models", timeout=10).status_code for _ in range(20)}
    assert answers == {200}


def test_database_comes_back(cluster: Project) -> None:
    """The guide's lines: the rows are the same after the database is lost and restored."""
    before = query(cluster, "SELECT * FROM lts_jobs ORDER BY 1")
    own_image = ("liver-tumor-segmentation:cpu", cluster.variables["LTS_IMAGE"])
    back_up = commands("cluster-back-up").replace(*own_image).replace("PROJECT", cluster.name)
    assert "backed up" in cluster.shell(back_up)
    cluster.compose("stop", "nginx", "api", "worker")
    query(cluster, "DROP DATABASE lts", database="postgres")
    query(cluster, "CREATE DATABASE lts", database="postgres")
    assert "restored" in cluster.shell(commands("cluster-restore"))
    assert query(cluster, "SELECT * FROM lts_jobs ORDER BY 1") == before
    cluster.compose("start", "api", "worker", "nginx")
    cluster.wait_ready()

"""Scrapes, alerts and the dashboard, as files: read by Prometheus' own tool where it has one."""

import itertools
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT
from fakes import FakeSegmenter
from http_helpers import running
from observability.exposed import DEVICE, listen_metrics, nvidia, samples_of, text_of

PROMETHEUS = ROOT / "deploy" / "prometheus"
GRAFANA = ROOT / "deploy" / "grafana"
CASES = ROOT / "tests" / "observability" / "alerts.test.yml"

OF_PROMETHEUS = {"up", "ALERTS"}
"""Series that it makes by itself."""

ROWS = {"Health", "Traffic", "Latency", "Queue", "Inference", "Jobs", "PACS", "Resources"}

pytestmark = pytest.mark.prometheus


@pytest.fixture(scope="module")
def alerts() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"]
    return list(group["rules"])


@pytest.fixture(scope="module")
def dashboard() -> dict[str, Any]:
    return dict(json.loads((GRAFANA / "dashboards" / "service.json").read_text()))


@pytest.fixture(scope="module")
def panels(dashboard: dict[str, Any]) -> list[dict[str, Any]]:
    return list(dashboard["panels"])


@pytest.fixture
def exported(threshold: FakeSegmenter, tmp_path: Path) -> set[str]:
    """Samples that the service, on a GPU, and `listen` tell."""
    threshold.device = DEVICE
    with nvidia(), running(tmp_path / "service", threshold) as client:
        of_service = client.get("/metrics").text
    return samples_of(of_service) | samples_of(text_of(listen_metrics(tmp_path)))


def metrics_in(expression: str) -> set[str]:
    """The names of metrics in a query: words that are no function, label or text."""
    plain = re.sub(r'"[^"]*"', "", expression)
    plain = re.sub(r"\b(by|on|without|ignoring)\s*\([^)]*\)", "", plain)
    plain = re.sub(r"\{[^}]*\}|\[[^\]]*\]", "", plain)
    words = set(re.findall(r"[A-Za-z_]\w*(?!\w*\s*\()", plain))
    return {word for word in words if "_" in word or word in OF_PROMETHEUS}


def run(promtool: str, *arguments: object) -> None:
    done = subprocess.run(
        [promtool, *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_takes_the_files(promtool: str) -> None:
    """What it scrapes, and the rules."""
    run(promtool, "check", "config", PROMETHEUS / "prometheus.yml")
    run(promtool, "check", "rules", PROMETHEUS / "alerts.yml")


def test_each_alert_fires_when_it_should(promtool: str) -> None:
    """And says so in words; the cases are Prometheus' own kind of test."""
    run(promtool, "test", "rules", CASES)


def test_each_alert_has_a_case_of_either_kind(alerts: list[dict[str, Any]]) -> None:
    """One in which it fires, one in which it does not, or more."""
    kinds = {
        (case["alertname"], bool(case["exp_alerts"]))
        for test in yaml.safe_load(CASES.read_text())["tests"]
        for case in test["alert_rule_test"]
    }
    assert kinds == {(rule["alert"], fires) for rule in alerts for fires in (True, False)}


def test_each_alert_says_what_to_do(alerts: list[dict[str, Any]]) -> None:
    """How bad it is, what happened in words, and a place in the documentation that exists."""
    document = (ROOT / "docs" / "observability.md").read_text()
    headings = re.findall(r"^#+ (.*)$", document, re.MULTILINE)
    anchors = {heading.lower().replace(" ", "-") for heading in headings}
    for rule in alerts:
        assert rule["labels"]["severity"] in ("critical", "warning"), rule["alert"]
        notes = rule["annotations"]
        assert set(notes) == {"summary", "description", "runbook"}
        file, _, anchor = notes["runbook"].partition("#")
        assert file == "docs/observability.md"
        assert anchor == rule["alert"].lower()
        assert anchor in anchors


def test_each_alert_is_described(alerts: list[dict[str, Any]]) -> None:
    """The documentation has a heading for each, in their order, and for no other."""
    document = (ROOT / "docs" / "observability.md").read_text()
    table = document.split("## Alerts\n")[1].split("\n## ")[0]
    assert re.findall(r"^### (\w+)$", table, re.M) == [rule["alert"] for rule in alerts]


def test_alerts_ask_for_what_there_is(alerts: list[dict[str, Any]], exported: set[str]) -> None:
    """Every metric of a rule is one that the service tells."""
    for rule in alerts:
        asked = metrics_in(rule["expr"])
        assert asked, rule["alert"]
        assert asked <= exported | OF_PROMETHEUS, rule["alert"]


def test_every_process_is_scraped() -> None:
    """By its name among the processes of docker compose, so that replicas are found."""
    scrapes = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())["scrape_configs"]
    names = {
        (job["job_name"], f"{config['names'][0]}:{config['port']}")
        for job in scrapes
        for config in job.get("dns_sd_configs", [])
        if config["type"] == "A"
    }
    ports = {"service": 8000, "api": 8000, "worker": 8000, "listen": 9112}
    assert names == {(name, f"{name}:{port}") for name, port in ports.items()}


def test_alerts_know_the_jobs(alerts: list[dict[str, Any]]) -> None:
    """Those that a rule names are scraped, and `service` and `api` are who takes requests."""
    scrapes = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())["scrape_configs"]
    scraped = {job["job_name"] for job in scrapes}
    named = {rule["alert"]: re.findall(r'job=~"([^"]*)"', rule["expr"]) for rule in alerts}
    assert {job for lists in named.values() for it in lists for job in it.split("|")} <= scraped
    assert named["NothingReady"] == ["service|api"]


def test_probes_and_scrapes_are_told_from_work(
    alerts: list[dict[str, Any]], threshold: FakeSegmenter, tmp_path: Path
) -> None:
    """By their routes, as the rule of errors has them."""
    (rule,) = [rule for rule in alerts if rule["alert"] == "ServerErrors"]
    (left_out,) = re.findall(r'route!~"([^"]*)"', rule["expr"])
    with running(tmp_path, threshold) as client:
        for path in ("/health/live", "/health/startup", "/health/ready", "/metrics", "/v1/models"):
            client.get(path)
        text = client.get("/metrics").text
    counted = {route for line in text.splitlines() if line.startswith("lts_requests_total{")
               for route in re.findall(r'route="([^"]*)"', line)}  # fmt: skip
    assert {route for route in counted if not re.fullmatch(left_out, route)} == {"/v1/models"}


def expressions(panels: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    """The title of each panel with each of its queries."""
    for panel in panels:
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"]


def test_the_dashboard_asks_for_what_there_is(
    panels: list[dict[str, Any]], exported: set[str]
) -> None:
    """Every metric of a panel is one that the service tells, and every one of ours is shown."""
    shown = set()
    for title, expression in expressions(panels):
        asked = metrics_in(expression)
        assert asked, title
        assert asked <= exported | OF_PROMETHEUS, title
        shown |= asked
    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in shown}
    ours = {name for name in exported if name.startswith("lts_")}
    of_ours = {re.sub(r"_(bucket|sum|count)$", "", name) for name in ours}
    assert of_ours - families == set()


def test_the_dashboards_queries_can_be_read(
    promtool: str, panels: list[dict[str, Any]], tmp_path: Path
) -> None:
    """By Prometheus, as rules; Grafana fills in the interval."""
    rules = [
        {"record": f"panel:{number}", "expr": expression.replace("$__rate_interval", "1m")}
        for number, (_, expression) in enumerate(expressions(panels))
    ]
    file = tmp_path / "queries.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    run(promtool, "check", "rules", file)


def test_the_dashboard_is_laid_out(panels: list[dict[str, Any]]) -> None:
    """Each panel has an id of its own, a place that no other takes, and what it shows in words."""
    assert {panel["title"] for panel in panels if panel["type"] == "row"} == ROWS
    assert len({panel["id"] for panel in panels}) == len(panels)
    for one, other in itertools.combinations([panel["gridPos"] for panel in panels], 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        below = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or below, (one, other)
    for panel in panels:
        assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24
        if panel["type"] != "row":
            assert panel["description"]
            assert panel["fieldConfig"]["defaults"]["unit"]
            assert all(target["legendFormat"] for target in panel["targets"])


def test_the_dashboard_finds_its_data(
    dashboard: dict[str, Any], panels: list[dict[str, Any]]
) -> None:
    """By a variable whose first value is the data source that is set up with it."""
    provisioning = GRAFANA / "provisioning"
    sources = yaml.safe_load((provisioning / "datasources" / "prometheus.yml").read_text())
    (source,) = sources["datasources"]
    (variable,) = dashboard["templating"]["list"]
    assert (variable["type"], variable["query"]) == ("datasource", source["type"])
    assert variable["current"]["value"] == source["uid"]
    for panel in panels:
        for item in (panel, *panel.get("targets", [])):
            assert item.get("datasource", {}).get("uid", "${datasource}") == "${datasource}"
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "service.yml").read_text())[
        "providers"
    ]
    assert provider["options"]["path"] == "/var/lib/grafana/dashboards"

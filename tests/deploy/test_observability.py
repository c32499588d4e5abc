"""What watches the stack asks for metrics and labels that exist, and tells an operator what to do.

Names are compared with what the service renders and what HAProxy is known to export. Where
promtool is installed, it judges the configuration and runs the alerts' own tests.
"""

import json
import re
import shutil
import subprocess
from functools import cache
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from service.observability.metrics import LaneState, Metrics, ModelState
from service.observability.request_record import RequestRecord
from service.scheduling.batcher import BatchRecord
from service.settings import PREFIX, Settings

ROOT = Path(__file__).resolve().parents[2]
PROMETHEUS = ROOT / "deploy" / "prometheus"
GRAFANA = ROOT / "deploy" / "grafana"
COMPOSE = (ROOT / "docker-compose.yml").read_text()
PROXY = (ROOT / "deploy" / "haproxy" / "haproxy.cfg").read_text()

# What HAProxy's own exporter tells, by the list in addons/promex/README of its sources; 2.6, 3.0
# and 3.2 were asked and tell each of these.
HAPROXY = {
    "haproxy_frontend_http_responses_total": {"proxy", "code"},
    "haproxy_backend_active_servers": {"proxy"},
    "haproxy_backend_connection_errors_total": {"proxy"},
    "haproxy_backend_current_queue": {"proxy"},
    "haproxy_backend_http_responses_total": {"proxy", "code"},
    "haproxy_backend_redispatch_warnings_total": {"proxy"},
    "haproxy_backend_retry_warnings_total": {"proxy"},
    "haproxy_server_check_up_down_total": {"proxy", "server"},
    "haproxy_server_current_sessions": {"proxy", "server"},
    "haproxy_server_http_responses_total": {"proxy", "server", "code"},
    "haproxy_server_status": {"proxy", "server", "state"},
}
HAPROXY_CODES = {"1xx", "2xx", "3xx", "4xx", "5xx", "other"}
HAPROXY_STATES = {"DOWN", "UP", "MAINT", "DRAIN", "NOLB"}
# What Prometheus makes itself.
OWN = {
    "ALERTS": {"alertname", "alertstate", "severity"},
    "up": set(),
    "prometheus_config_last_reload_successful": set(),
    "prometheus_rule_evaluation_failures_total": {"rule_group"},
}
TARGET = {"instance", "job"}

_TOKEN = re.compile(
    r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\((?P<clause>[^)]*)\)"
    r"|\[[^\]]*\]|\boffset\s+\w+|\d[\w.]*"
    r"|(?P<call>[a-zA-Z_]\w*)(?=\s*(?:\(|by\b|without\b))"
    r"|(?P<metric>[a-zA-Z_]\w*)(?:\{(?P<matchers>[^{}]*)\})?"
)
_SCALAR = re.compile(r"\bscalar\((?:[^()]|\((?:[^()]|\([^()]*\))*\))*\)")
_MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"')
_OPERATORS = {"and", "or", "unless", "bool"}


class Matcher(NamedTuple):
    """One condition of a selector."""

    label: str
    operator: str
    value: str


class Query(NamedTuple):
    """What a PromQL expression asks for: metrics with their conditions, and labels it groups by."""

    selectors: tuple[tuple[str, tuple[Matcher, ...]], ...]
    clauses: frozenset[str]


def parse(expression: str) -> Query:
    """The selectors and clauses of an expression, of as much of PromQL as is used here."""
    selectors, clauses = [], set()
    for token in _TOKEN.finditer(expression):
        if token["clause"] is not None:
            clauses |= set(re.findall(r"\w+", token["clause"]))
        elif token["metric"] and token["metric"] not in _OPERATORS:
            matchers = _MATCHER.findall(token["matchers"] or "")
            selectors.append((token["metric"], tuple(Matcher(*found) for found in matchers)))
    return Query(tuple(selectors), frozenset(clauses))


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


ALERTS = {
    rule["alert"]: rule
    for group in read(PROMETHEUS / "alerts.yml")["groups"]
    for rule in group["rules"]
}
TRIALS = read(PROMETHEUS / "alerts_test.yml")["tests"]
SCRAPES = {job["job_name"]: job for job in read(PROMETHEUS / "prometheus.yml")["scrape_configs"]}
DASHBOARD = json.loads((GRAFANA / "dashboards" / "cloze.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
VARIABLES = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}


def read_variable(variable: dict[str, Any]) -> str:
    """The query of a variable, `label_values(selector, label)`, as an expression that groups."""
    found = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
    assert found, variable["query"]
    return f"max by ({found[2]}) ({found[1]})"


QUERIES = (
    {name: rule["expr"] for name, rule in ALERTS.items()}
    | {
        f"{panel['title']} {target['refId']}": target["expr"]
        for panel in PANELS
        for target in panel["targets"]
    }
    | {f"${name}": read_variable(variable) for name, variable in VARIABLES.items()}
)
EACH_QUERY = pytest.mark.parametrize("expression", QUERIES.values(), ids=QUERIES)
EACH_PANEL = pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
EACH_ALERT = pytest.mark.parametrize("name", ALERTS)


@cache
def render_metrics() -> dict[str, dict[str, set[str]]]:
    """Every name that the service renders, with its labels and their values."""
    metrics = Metrics()
    model = "lacuna-mini"
    for status in range(200, 600):
        times = RequestRecord(model=model, code="overloaded" if status == 429 else "")
        metrics.observe_request("/v1/embeddings", status, 0.1, times)
    metrics.observe_answer(model, "embed", 5, RequestRecord())
    metrics.observe_drop(model, "client_gone", 1)
    for failed in (False, True):
        ran = BatchRecord(1, 5, 1, 5, 0.1, "interactive", 0.1, 0.0, (), failed)
        metrics.batch_observer(model)(ran)
    lanes = tuple(LaneState(lane, 1.0, 2.0) for lane in ("interactive", "bulk"))
    state = ModelState(model, "bert", "fp32", "abc", lanes, 1)
    metrics.watch(lambda: [state], lambda: True)
    found: dict[str, dict[str, set[str]]] = {}
    for family in text_string_to_metric_families(metrics.render().decode()):
        for sample in family.samples:
            labels = found.setdefault(sample.name, {})
            for label, value in sample.labels.items():
                labels.setdefault(label, set()).add(value)
    for metric in metrics.registry.collect():
        assert metric.samples, f"{metric.name} has no sample: observe it here"
    return found


@cache
def know_labels() -> dict[str, set[str]]:
    """The labels of every metric that Prometheus has."""
    ours = {name: set(labels) for name, labels in render_metrics().items()}
    return {name: labels | TARGET for name, labels in (ours | HAPROXY | OWN).items()}


def know_values(metric: str, label: str) -> set[str] | None:
    """The values that a label can have, where these are few and known."""
    kind = metric.split("_")[1] if metric.startswith("haproxy_") else ""
    told = render_metrics().get(metric, {})
    section = "frontend" if kind == "frontend" else "backend"
    return {
        "stage": render_metrics()["cloze_stage_seconds_count"]["stage"],
        "outcome": told.get("outcome"),
        "lane": told.get("lane"),
        "proxy": set(re.findall(rf"^{section} (\w+)$", PROXY, re.MULTILINE)),
        "code": HAPROXY_CODES,
        "state": HAPROXY_STATES,
        "job": set(SCRAPES),
        "alertstate": {"pending", "firing"},
    }.get(label)


def read_expectations() -> dict[str, list[dict[str, str]]]:
    """The labels with which each alert is expected to fire in alerts_test.yml."""
    found: dict[str, list[dict[str, str]]] = {}
    for trial in TRIALS:
        for check in trial["promql_expr_test"]:
            for sample in check["exp_samples"]:
                ((_, matchers),) = parse(sample["labels"]).selectors
                labels = {matcher.label: matcher.value for matcher in matchers}
                if labels["alertstate"] == "firing":
                    found.setdefault(labels["alertname"], []).append(labels)
    return found


@pytest.mark.parametrize(
    ("expression", "metrics", "clauses"),
    [
        ("up == 0", {"up": []}, set()),
        (
            'sum by (a, le) (rate(x{b="1", c=~"2.+"}[5m]))',
            {"x": ["b", "c"]},
            {"a", "le"},
        ),
        ("sum(x) by (a) / on (a) group_left (c) y > 0.5", {"x": [], "y": []}, {"a", "c"}),
        ('max(x{b!="1"} unless x offset 15m) or vector(0) and y', {"x": ["b"], "y": []}, set()),
        ("clamp_min(rate(x[$__rate_interval]) * 1e3, 0) > 2.5", {"x": []}, set()),
    ],
)
def test_expressions_are_read(
    expression: str, metrics: dict[str, list[str]], clauses: set[str]
) -> None:
    query = parse(expression)
    found: dict[str, list[str]] = {}
    for metric, matchers in query.selectors:
        found.setdefault(metric, []).extend(matcher.label for matcher in matchers)
    assert (found, set(query.clauses)) == (metrics, clauses)


@EACH_QUERY
def test_every_metric_and_label_exists(expression: str) -> None:
    query = parse(expression)
    assert query.selectors
    grouped = {metric for metric, _ in parse(_SCALAR.sub("1", expression)).selectors}
    for metric, matchers in query.selectors:
        assert metric in know_labels(), metric
        labels = know_labels()[metric]
        assert {matcher.label for matcher in matchers} <= labels, metric
        if metric not in grouped:
            continue  # a number, whatever the rest is grouped by
        # The bounds of a histogram may stand beside its count, which has none.
        assert query.clauses - {"le"} <= labels, metric
    assert query.clauses <= set().union(*(know_labels()[name] for name, _ in query.selectors))


@EACH_QUERY
def test_every_value_asked_for_can_occur(expression: str) -> None:
    for metric, matchers in parse(expression).selectors:
        for matcher in matchers:
            values = know_values(metric, matcher.label)
            if values is not None and "$" not in matcher.value:
                assert matcher.operator == "=", matcher
                assert matcher.value in values, matcher


def test_replicas_and_proxy_are_scraped_where_they_tell_their_metrics() -> None:
    (replicas,) = SCRAPES["cloze"]["dns_sd_configs"]
    assert (replicas["names"], replicas["type"], replicas["port"]) == (["cloze"], "A", 8080)
    assert SCRAPES["proxy"]["static_configs"] == [{"targets": ["proxy:8405"]}]
    assert re.search(r"^frontend metrics\n\s+bind :8405$", PROXY, re.MULTILINE)
    assert SCRAPES.keys() == {"cloze", "proxy", "prometheus"}
    services = yaml.safe_load(COMPOSE)["services"]
    assert SCRAPES.keys() <= services.keys()


def test_files_lie_where_they_are_looked_for() -> None:
    configuration = read(PROMETHEUS / "prometheus.yml")
    assert [PROMETHEUS / name for name in configuration["rule_files"]] == [
        PROMETHEUS / "alerts.yml"
    ]
    (provider,) = read(GRAFANA / "provisioning/dashboards/cloze.yml")["providers"]
    services = yaml.safe_load(COMPOSE)["services"]
    mounts = {
        source: target
        for service in ("prometheus", "grafana")
        for source, target in (volume.split(":")[:2] for volume in services[service]["volumes"])
    }
    assert mounts["./deploy/prometheus"] == "/etc/prometheus"
    assert mounts["./deploy/grafana/dashboards"] == provider["options"]["path"]


@EACH_ALERT
def test_an_alert_says_how_bad_it_is_what_is_wrong_and_what_to_do(name: str) -> None:
    rule = ALERTS[name]
    assert rule["labels"].keys() == {"severity"}
    assert rule["labels"]["severity"] in {"page", "ticket"}
    assert rule["annotations"].keys() == {"summary", "description"}
    assert all(len(text) > 20 for text in rule["annotations"].values())


def test_no_alert_is_there_twice() -> None:
    assert len(ALERTS) == len(re.findall(r"- alert:", (PROMETHEUS / "alerts.yml").read_text()))


@EACH_ALERT
def test_an_alert_is_seen_to_fire_with_the_labels_that_it_tells(name: str) -> None:
    rule = ALERTS[name]
    expectations = read_expectations()[name]
    told = set(re.findall(r"\$labels\.(\w+)", " ".join(rule["annotations"].values())))
    for labels in expectations:
        assert labels["severity"] == rule["labels"]["severity"]
        assert told <= labels.keys()


def test_nothing_fires_that_is_no_alert_and_all_are_seen_silent() -> None:
    assert read_expectations().keys() == ALERTS.keys()
    for trial in TRIALS:
        checks = trial["promql_expr_test"]
        assert all(check["expr"].startswith("ALERTS") for check in checks)
        assert any(check["exp_samples"] == [] for check in checks), trial["name"]


def test_alerts_and_settings_named_anywhere_exist() -> None:
    texts = [text for rule in ALERTS.values() for text in rule["annotations"].values()]
    texts += [panel["description"] for panel in PANELS]
    whole = " ".join(texts)
    assert set(re.findall(r"\bCloze[A-Z]\w+", whole)) <= ALERTS.keys()
    known = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}
    known |= set(re.findall(rf"\$\{{({PREFIX}\w+)", COMPOSE))
    assert set(re.findall(rf"\b{PREFIX}\w+", whole)) <= known


def test_the_dashboard_is_of_no_one_machine() -> None:
    assert DASHBOARD["uid"] == "cloze"
    assert not DASHBOARD.keys() & {"id", "version", "iteration", "__inputs"}
    (datasource,) = read(GRAFANA / "provisioning/datasources/prometheus.yml")["datasources"]
    named = [panel["datasource"] for panel in (*PANELS, *VARIABLES.values())]
    assert all(one == {"type": datasource["type"], "uid": datasource["uid"]} for one in named)
    assert datasource["uid"] == "prometheus"
    assert datasource["url"] == "http://prometheus:9090"
    interval = read(PROMETHEUS / "prometheus.yml")["global"]["scrape_interval"]
    assert datasource["jsonData"]["timeInterval"] == interval


def test_panels_have_numbers_of_their_own_and_places_of_their_own() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = [panel["gridPos"] for panel in panels]
    assert all(place["x"] >= 0 and place["x"] + place["w"] <= 24 for place in places)
    for one, other in combinations(places, 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        above = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or above, (one, other)


def test_rows_stand_in_order_and_none_is_empty() -> None:
    panels = DASHBOARD["panels"]
    rows = [panel["title"] for panel in panels if panel["type"] == "row"]
    assert rows == ["Traffic", "Latency", "Queue", "Batches", "Models", "Proxy", "Replicas"]
    assert panels[0]["type"] == "row"
    assert panels[-1]["type"] != "row"
    for one, other in pairwise(panels):
        assert one["type"] != "row" or other["type"] != "row", one["title"]


@EACH_PANEL
def test_a_panel_says_what_it_shows(panel: dict[str, Any]) -> None:
    assert panel["title"]
    assert len(panel["description"]) > 20
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"]) > 0
    for target in panel["targets"]:
        query = parse(target["expr"])
        grouped = query.clauses or know_labels()[query.selectors[0][0]]
        assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= grouped
        assert target["legendFormat"]


def test_titles_differ() -> None:
    assert len({panel["title"] for panel in PANELS}) == len(PANELS)


def test_variables_are_used_and_those_used_exist() -> None:
    expressions = [target["expr"] for panel in PANELS for target in panel["targets"]]
    used = set(re.findall(r"\$(\w+)", " ".join(expressions)))
    assert used == VARIABLES.keys() | {"__rate_interval"}
    assert VARIABLES.keys() == {"route", "instance"}


@pytest.mark.parametrize(
    "command",
    [
        ["check", "config", "prometheus.yml"],
        ["check", "rules", "alerts.yml"],
        ["test", "rules", "alerts_test.yml"],
    ],
    ids=" ".join,
)
def test_promtool_agrees(command: list[str]) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed")
    done = subprocess.run(
        [promtool, *command], cwd=PROMETHEUS, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr

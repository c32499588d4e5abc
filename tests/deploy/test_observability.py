"""What watches the stack asks for metrics and labels that exist, and tells an operator what to do.

Names are compared with what the service renders and what HAProxy is known to export. PromQL is
promtool's matter: it reads all expressions, runs the alerts' own tests, and asks the dashboard's
of a Prometheus that has one series of everything. Where it is not installed, those are skipped.
"""

import json
import re
import shutil
import subprocess
from functools import cache
from itertools import combinations, pairwise, product
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from service.endpoint import Endpoint, Kind
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

# Names and conditions, of as much of PromQL as is used here: what it means is promtool's to say.
_SELECTOR = re.compile(r"\b((?:cloze|haproxy|process|prometheus)_\w+|up|ALERTS)\b(?:\{([^{}]*)\})?")
_MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"')
_CLAUSE = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")

# What the lint of promtool has against our names, and why they stay.
LINTS = {
    # Beside CLOZE_MAX_QUEUE_MS, which they are compared with.
    'cloze_queue_limit_milliseconds use base unit "seconds" instead of "milliseconds"',
    'cloze_queued_milliseconds use base unit "seconds" instead of "milliseconds"',
}


def find_selectors(expression: str) -> list[tuple[str, list[tuple[str, str, str]]]]:
    """The metrics that an expression names, each with its conditions: label, operator, value."""
    return [(name, _MATCHER.findall(inside)) for name, inside in _SELECTOR.findall(expression)]


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


def read_variable(variable: dict[str, Any]) -> tuple[str, str]:
    """The selector and the label of a variable, `label_values(selector, label)`."""
    found = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
    assert found, variable["query"]
    return found[1], found[2]


def list_shown() -> list[tuple[str, list[str]]]:
    """Every expression of the dashboard, with the labels that are shown of what it gives."""
    targets = [target for panel in PANELS for target in panel["targets"]]
    shown = [(one["expr"], re.findall(r"\{\{(\w+)\}\}", one["legendFormat"])) for one in targets]
    variables = [read_variable(variable) for variable in VARIABLES.values()]
    return shown + [(selector, [label]) for selector, label in variables]


SHOWN = list_shown()
EXPRESSIONS = [rule["expr"] for rule in ALERTS.values()] + [expression for expression, _ in SHOWN]
EACH_PANEL = pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
EACH_ALERT = pytest.mark.parametrize("name", ALERTS)


EMBEDDINGS = Endpoint(path="/v1/embeddings", kind=Kind.WORK)


@cache
def render_metrics() -> str:
    """Everything that the service tells, as it tells it."""
    metrics = Metrics()
    model = "lacuna-mini"
    for status in range(200, 600):
        times = RequestRecord(model=model, code="overloaded" if status == 429 else "")
        metrics.observe_request(EMBEDDINGS, status, 0.1, times)
    metrics.observe_answer(model, "embed", 5, RequestRecord())
    metrics.observe_drop(model, "client_gone", 1)
    for failed in (False, True):
        ran = BatchRecord(1, 5, 1, 5, 0.1, "interactive", 0.1, 0.0, (), failed)
        metrics.batch_observer(model)(ran)
    lanes = tuple(LaneState(lane, 1.0, 2.0) for lane in ("interactive", "bulk"))
    state = ModelState(model, "bert", "fp32", "kernels", "abc", lanes, 1)
    metrics.watch(lambda: [state], lambda: True)
    for metric in metrics.registry.collect():
        assert metric.samples, f"{metric.name} has no sample: observe it here"
    return metrics.render().decode()


@cache
def list_series() -> list[tuple[str, dict[str, str]]]:
    """A series of everything that Prometheus can have: ours, HAProxy's and its own."""
    families = text_string_to_metric_families(render_metrics())
    ours = [(sample.name, sample.labels) for family in families for sample in family.samples]
    found = [(name, labels | {"job": "cloze", "instance": "a"}) for name, labels in ours]
    for name, labels in (HAPROXY | OWN).items():
        given = {label: sorted(know_values(name, label) or {"any"}) for label in labels}
        given |= {"job": sorted(SCRAPES), "instance": ["a"]}
        found += [(name, dict(zip(given, each, strict=True))) for each in product(*given.values())]
    return found


@cache
def know_labels() -> dict[str, set[str]]:
    """The labels of every metric that Prometheus has."""
    found: dict[str, set[str]] = {}
    for name, labels in list_series():
        found.setdefault(name, set()).update(labels)
    return found


def know_values(metric: str, label: str) -> set[str] | None:
    """The values that a label can have, where these are few and known."""
    section = "frontend" if metric.startswith("haproxy_frontend") else "backend"
    if label in ("stage", "outcome", "lane"):
        told = rf'^{metric}\{{.*\b{label}="(\w+)"'
        return set(re.findall(told, render_metrics(), re.MULTILINE))
    return {
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
                labels = {label: value for label, _, value in _MATCHER.findall(sample["labels"])}
                if labels["alertstate"] == "firing":
                    found.setdefault(labels["alertname"], []).append(labels)
    return found


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_every_metric_label_and_value_exists(expression: str) -> None:
    selectors = find_selectors(expression)
    assert selectors
    for metric, matchers in selectors:
        assert metric in know_labels()
        for label, operator, value in matchers:
            assert label in know_labels()[metric], metric
            values = know_values(metric, label)
            if values is not None and "$" not in value:
                assert operator == "="
                assert value in values, (metric, label)
    # That each of them is there where it is asked for, promtool finds out.
    grouped = set(re.findall(r"\w+", " ".join(_CLAUSE.findall(expression))))
    assert grouped <= set().union(*(know_labels()[metric] for metric, _ in selectors))


def test_alerts_are_tried_on_what_there_is() -> None:
    """With series that nobody tells, an alert that never fires would be seen to fire."""
    for trial in TRIALS:
        for given in trial["input_series"]:
            ((metric, matchers),) = find_selectors(given["series"])
            assert {label for label, _, _ in matchers} <= know_labels()[metric], given


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
    assert all(target["legendFormat"] for target in panel["targets"])


def test_titles_differ() -> None:
    assert len({panel["title"] for panel in PANELS}) == len(PANELS)


def test_variables_are_used_and_those_used_exist() -> None:
    expressions = [target["expr"] for panel in PANELS for target in panel["targets"]]
    used = set(re.findall(r"\$(\w+)", " ".join(expressions)))
    assert used == VARIABLES.keys() | {"__rate_interval"}
    assert VARIABLES.keys() == {"route", "instance"}


def ask_promtool(*arguments: str, folder: Path = PROMETHEUS, given: str = "") -> tuple[int, str]:
    """Its exit code, and what it says."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed: it comes with Debian's package prometheus")
    done = subprocess.run(
        [promtool, *arguments], cwd=folder, input=given, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    "command",
    [
        "check config prometheus.yml",
        "check rules alerts.yml",
        "test rules alerts_test.yml",
    ],
)
def test_promtool_agrees(command: str) -> None:
    code, said = ask_promtool(*command.split())
    assert code == 0, said


def test_promtool_has_nothing_else_against_our_metrics() -> None:
    _, said = ask_promtool("check", "metrics", given=render_metrics())
    assert set(said.splitlines()) == LINTS


def test_whatever_the_dashboard_asks_is_answered_with_the_labels_it_shows(tmp_path: Path) -> None:
    """Asked where there is a series of everything: without an answer, something is misnamed."""
    code, said = ask_dashboard(tmp_path, SHOWN)
    assert code == 0, said


@pytest.mark.parametrize(
    ("expression", "labels"),
    [
        ("sum by (route) (rate(cloze_request_total[5m]))", ["route"]),
        ("sum by (path) (rate(cloze_requests_total[5m]))", ["path"]),
        ('sum by (route) (rate(cloze_requests_total{route="/v1"}[5m]))', ["route"]),
        ("histogram_quantile(0.5, sum by (route) (rate(cloze_request_seconds_bucket[5m])))", []),
        ("sum by (route (rate(cloze_requests_total[5m]))", ["route"]),
    ],
)
def test_what_is_misnamed_has_no_answer(tmp_path: Path, expression: str, labels: list[str]) -> None:
    code, _ = ask_dashboard(tmp_path, [(expression, labels)])
    assert code != 0


def write_matchers(labels: dict[str, str]) -> str:
    return ", ".join(f'{label}="{value}"' for label, value in labels.items())


def ask_dashboard(folder: Path, shown: list[tuple[str, list[str]]]) -> tuple[int, str]:
    """Whether each expression gives something that has all the labels, by a test of rules."""
    asked = []
    for expression, labels in shown:
        asks = re.sub(r"\$(?:route|instance)\b", ".+", expression.replace("$__rate_interval", "5m"))
        # One that lacks the label is as the vector, which has none, and goes.
        lacking = "".join(f" unless on ({label}) vector(1)" for label in labels)
        asked.append(
            {
                "eval_time": "15m",
                "expr": f"count(({asks}){lacking}) > bool 0",
                "exp_samples": [{"labels": "{}", "value": 1}],
            }
        )
    series = [
        {"series": f"{name}{{{write_matchers(labels)}}}", "values": "1+1x60"}
        for name, labels in list_series()
    ]
    trial = {"interval": "15s", "input_series": series, "promql_expr_test": asked}
    (folder / "test.yml").write_text(json.dumps({"rule_files": [], "tests": [trial]}))
    return ask_promtool("test", "rules", "test.yml", folder=folder)

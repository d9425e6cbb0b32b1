"""All of it for real: a broker, `driftd run`, Prometheus with the rules that are shipped, and Alertmanager."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from confluent_kafka import Producer

from tests.kafka_brokers import free_ports, made, needs_broker, real_broker
from tests.promql import needs_prometheus
from tests.replay.logs import lines, make_log
from tests.test_alerting import ROOT, RULES
from tests.test_dashboards import DASHBOARDS, queries

pytestmark = [pytest.mark.shared, needs_broker, needs_prometheus]


class Live(NamedTuple):
    """Where to ask."""

    driftd: str
    prometheus: str
    alertmanager: str


def wait_for(what: Callable[[], object], said: Callable[[], object] = lambda: "") -> None:
    until = time.monotonic() + 120
    while True:
        with suppress(httpx.TransportError, json.JSONDecodeError):  # they are starting
            if what():
                return
        assert time.monotonic() < until, said()
        time.sleep(0.5)


def ask(base: str, path: str, **more: str) -> Any:
    return httpx.get(f"{base}{path}", params=more, timeout=30).json()


def query(live: Live, expr: str) -> list[Any]:
    answer = ask(live.prometheus, "/api/v1/query", query=expr)
    assert answer["status"] == "success", (expr, answer)
    found: list[Any] = answer["data"]["result"]
    return found


def _apart() -> list[int]:
    """Four ports, the first with the one behind it."""
    while True:
        found = [free_ports() for _ in range(4)]
        if len({*found, found[0] + 1}) == 5:
            return found


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    folder = tmp_path_factory.mktemp("live")
    broker, web, prometheus, alertmanager = _apart()
    with ExitStack() as stack:
        stack.enter_context(real_broker(folder / "broker", broker))
        made(f"127.0.0.1:{broker}", "live", 3)
        producer = Producer({"bootstrap.servers": f"127.0.0.1:{broker}", "log_level": 0})
        messages = [*lines(make_log(1, 3_000)), *[b"no record"] * 9]
        first, rest = messages[:2_950], messages[2_950:]
        for number, message in enumerate(first):
            producer.produce("live", message, partition=number % 3)
        producer.flush()
        stop = threading.Event()

        def trickle() -> None:
            """Ten records a second, so that rates are not over before they are looked at."""
            for number, message in enumerate(rest):
                producer.produce("live", message, partition=number % 3)
                producer.poll(0)
                if stop.wait(0.1):
                    break
            producer.flush(10)

        thread = threading.Thread(target=trickle)

        def run(*command: str | Path) -> None:
            log = stack.enter_context((folder / f"{Path(command[0]).name}.log").open("wb"))
            process = stack.enter_context(subprocess.Popen(command, stdout=log, stderr=log, cwd=folder))
            stack.callback(process.wait)
            stack.callback(process.terminate)

        settings = {
            "sources": [{"kind": "kafka", "brokers": [f"127.0.0.1:{broker}"], "topic": "live"}],
            "windows": ["1m"],
            "reference": {"size": "6m"},
            "idle_after": "1h",
            "signals": {"embedding": False, "language": False, "duplicates": False},
            "store": {"path": str(folder / "driftd.db")},
            "web": {"listen": f"127.0.0.1:{web}"},
        }
        (folder / "driftd.yaml").write_text(json.dumps(settings))
        run(sys.executable, "-m", "monitor", "run", "-c", folder / "driftd.yaml")
        targets: dict[str, Any] = {"static_configs": [{"targets": [f"127.0.0.1:{web}"]}], "job_name": "driftd"}
        scrape = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(ROOT / "config" / "prometheus" / "rules" / "*.yaml")],
            "alerting": {"alertmanagers": [{"static_configs": [{"targets": [f"127.0.0.1:{alertmanager}"]}]}]},
            "scrape_configs": [targets],
        }
        (folder / "prometheus.yml").write_text(json.dumps(scrape))
        at = f"--web.listen-address=127.0.0.1:{prometheus}"
        run("prometheus", f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'tsdb'}", at)
        shipped = ROOT / "config" / "alertmanager" / "alertmanager.yml"
        at = f"--web.listen-address=127.0.0.1:{alertmanager}"
        alone, storage = "--cluster.listen-address=", f"--storage.path={folder / 'alertmanager'}"
        run("prometheus-alertmanager", f"--config.file={shipped}", storage, at, alone)
        found = Live(*(f"http://127.0.0.1:{port}" for port in (web, prometheus, alertmanager)))
        wait_for(
            lambda: sum(float(row["value"][1]) for row in query(found, "driftd_records_total")) >= len(first),
            lambda: (folder / "python.log").read_text()[-2000:],
        )
        wait_for(lambda: query(found, 'driftd_alerts{state="firing"}'))
        thread.start()
        stack.callback(thread.join)
        stack.callback(stop.set)
        yield found


def test_rules_that_are_shipped_fire_on_a_drift_and_alertmanager_hears_of_it(live: Live) -> None:
    wait_for(lambda: query(live, 'ALERTS{alertname="DriftdAlert", alertstate="firing"}'))
    wait_for(lambda: ask(live.alertmanager, "/api/v2/alerts", filter='alertname="DriftdAlert"'))
    told = ask(live.alertmanager, "/api/v2/alerts", filter='alertname="DriftdAlert"')
    known = {(a["rule"], a["stream"]) for a in ask(live.driftd, "/api/v1/alerts/live")["rows"]}
    assert {(a["labels"]["rule"], a["labels"]["stream"]) for a in told} <= known
    health = {row["metric"]["alertname"] for row in query(live, 'ALERTS{alertstate="firing"}')}
    assert health == {"DriftdAlert"}, "all is well with driftd itself"


def test_no_rule_fails_and_every_recorded_series_is_there(live: Live) -> None:
    groups = ask(live.prometheus, "/api/v1/rules")["data"]["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert len(rules) == len(RULES)
    wait_for(
        lambda: all(
            r["health"] == "ok" for g in ask(live.prometheus, "/api/v1/rules")["data"]["groups"] for r in g["rules"]
        )
    )
    for rule in RULES:
        if "record" in rule:
            wait_for(lambda name=rule["record"]: query(live, name), lambda name=rule["record"]: name)  # type: ignore[misc]


@pytest.mark.parametrize("name", DASHBOARDS)
def test_every_query_of_a_dashboard_answers_with_data(live: Live, name: str) -> None:
    for expr in queries(DASHBOARDS[name]):
        wait_for(lambda expr=expr: query(live, expr), lambda expr=expr: expr)  # type: ignore[misc]


def test_a_scrape_is_as_prometheus_wants_it(live: Live) -> None:
    (target,) = ask(live.prometheus, "/api/v1/targets")["data"]["activeTargets"]
    assert (target["health"], target["lastError"]) == ("up", "")
    wait_for(lambda: [row["value"][1] for row in query(live, "sum(driftd_consumer_lag_records)")] == ["0"])

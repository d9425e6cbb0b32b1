"""What driftd is shipped in, and what it runs beside: each held against its schema, the others and the code."""

from __future__ import annotations

import fnmatch
import http.server
import json
import re
import shlex
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
from cloudcoil.models.prometheus_operator.v1 import PodMonitor, PrometheusRule
from ruamel.yaml import YAML

from monitor import __version__
from monitor.config import Config, parse
from monitor.daemon import DRAIN_SECONDS
from monitor.sources.kafka_client import KafkaSettings

ROOT = Path(__file__).parent.parent
CONFIG = ROOT / "config"
KUBERNETES = CONFIG / "kubernetes"
PORT = 9464
TAG = r"[\w./-]+:v?\d+\.\d+(\.\d+)?"
"""An image that is named with a version."""
KUBERNETES_VERSIONS = ("1.30", "1.37")


def read(path: Path) -> Any:
    """YAML as Go's programs take it: yes and no are truth values, 010 is 8, and a key stands once."""
    yaml = YAML(typ="safe", pure=True)
    yaml.version = (1, 1)
    return yaml.load(path)


# ---- the image ------------------------------------------------------------------------------------------------------

INSTRUCTIONS = [
    (line.split(" ", 1)[0], line.split(" ", 1)[1].strip())
    for line in re.sub(r"\\\n\s*", " ", re.sub(r"(?m)^#.*\n", "", (ROOT / "Dockerfile").read_text())).splitlines()
    if line
]
IGNORED = (ROOT / ".dockerignore").read_text().splitlines()


def last(instruction: str) -> str:
    return [words for name, words in INSTRUCTIONS if name == instruction][-1]


def sent(path: str) -> bool:
    """Whether a file reaches the builder: the last line that speaks of it, or of a folder it is in, decides."""
    found = True
    parts = Path(path).parts
    names = ["/".join(parts[: end + 1]) for end in range(len(parts))]
    for line in (line for line in IGNORED if line and not line.startswith("#")):
        pattern = line.removeprefix("!")
        anywhere = pattern.startswith("**/")
        if any(fnmatch.fnmatch(Path(name).name if anywhere else name, pattern.removeprefix("**/")) for name in names):
            found = line.startswith("!")
    return found


def test_no_fault_is_found_in_the_dockerfile_and_its_shell() -> None:
    done = subprocess.run(
        [Path(sys.executable).parent / "hadolint", "--failure-threshold", "info", "--no-color", ROOT / "Dockerfile"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_is_copied_is_there_and_is_sent() -> None:
    copied = [shlex.split(words)[:-1] for name, words in INSTRUCTIONS if name == "COPY" and "--from" not in words]
    paths = [path for sources in copied for path in sources]
    assert {"monitor", "pyproject.toml", "README.md", "LICENSE"} <= set(paths)
    for path in paths:
        assert (ROOT / path).exists(), path
        assert sent(path), path
    assert all(sent(str(path.relative_to(ROOT))) for path in (ROOT / "monitor").rglob("*.py"))


@pytest.mark.parametrize(
    "path", [".git/config", "tests/conftest.py", "monitor/__pycache__/app.pyc", "driftd.db", ".env"]
)
def test_nothing_else_is_sent(path: str) -> None:
    assert not sent(path)


def test_torch_and_extras_are_those_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    runs = " ".join(words for name, words in INSTRUCTIONS if name == "RUN")
    (torch,) = re.findall(r'"(torch[^"]*)"', runs)
    assert torch in project["dependencies"]
    arguments = dict(words.split("=", 1) for name, words in INSTRUCTIONS if name == "ARG")
    assert arguments["EXTRAS"] in project["optional-dependencies"]
    assert arguments["TORCH_INDEX"].endswith("/cpu")
    assert {words.split(":")[0] for name, words in INSTRUCTIONS if name == "FROM"} == {
        "python",
        "dependencies AS build",
    }
    assert {name for name, _ in INSTRUCTIONS} >= {"HEALTHCHECK", "STOPSIGNAL", "VOLUME", "USER", "EXPOSE"}


def test_it_runs_as_nobody_with_a_number() -> None:
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", last("USER"))
    assert [name for name, _ in INSTRUCTIONS].index("USER") > max(
        number for number, (name, _) in enumerate(INSTRUCTIONS) if name == "RUN"
    )


def test_its_command_is_one() -> None:
    command = [*json.loads(last("ENTRYPOINT")), *json.loads(last("CMD"))]
    assert command == ["driftd", "run", "-c", "/etc/driftd/driftd.yaml"]
    done = subprocess.run(
        [sys.executable, "-m", "monitor", *command[1:-1], "absent.yaml"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "absent.yaml" in done.stderr
    assert last("STOPSIGNAL") == "SIGTERM"


@contextmanager
def answering(status: int) -> Iterator[int]:
    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/healthz" else 404)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  its name in the library
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server.server_port
        finally:
            server.shutdown()


def healthy(port: int) -> bool:
    """What the image's health check says, with a proxy in its environment that leads nowhere."""
    words = json.loads(re.search(r"CMD (\[.*\])", last("HEALTHCHECK"))[1])  # type: ignore[index]
    assert words[0] == "python"
    assert str(PORT) in words[-1]
    asked = [sys.executable, *words[1:-1], words[-1].replace(str(PORT), str(port))]
    return subprocess.run(asked, env={"http_proxy": "http://127.0.0.1:9"}, stderr=-3, check=False).returncode == 0


def test_its_health_is_asked_for() -> None:
    with answering(200) as port:
        assert healthy(port)
    assert not healthy(port)
    with answering(503) as port:
        assert not healthy(port)


# ---- beside others on one machine -----------------------------------------------------------------------------------

COMPOSE = read(CONFIG / "compose.yaml")
SERVICES = COMPOSE["services"]


def seconds(text: str) -> int:
    return int(text.removesuffix("s"))


def test_the_compose_file_keeps_to_its_schema() -> None:
    schema = json.loads(files("check_jsonschema").joinpath("builtin_schemas/vendor/compose-spec.json").read_text())
    validator = jsonschema.validators.validator_for(schema)(schema)
    assert [f"{error.json_path}: {error.message}" for error in validator.iter_errors(COMPOSE)] == []


def test_images_are_named_with_their_versions() -> None:
    for name, service in SERVICES.items():
        assert "build" in service or re.fullmatch(TAG, service["image"]), name
    assert (CONFIG / SERVICES["driftd"]["build"]["context"]).resolve() == ROOT
    declared = {words.split("=")[0] for name, words in INSTRUCTIONS if name == "ARG"}
    assert set(SERVICES["driftd"]["build"]["args"]) <= declared


def test_ports_are_open_to_this_machine_alone() -> None:
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert len(published) == 5
    assert all(re.fullmatch(r"127\.0\.0\.1:(\d+):\1", port) for port in published)


def test_what_is_mounted_is_there() -> None:
    used = [mount.split(":") for service in SERVICES.values() for mount in service.get("volumes", [])]
    for source, _, *mode in used:
        if source.startswith("."):
            assert (CONFIG / source).is_dir()
            assert mode == ["ro"]
    assert {source for source, *_ in used if not source.startswith(".")} == set(COMPOSE["volumes"])


def test_driftd_may_write_its_store_and_little_else() -> None:
    service = SERVICES["driftd"]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert [mount.split(":")[0] for mount in service["tmpfs"]] == ["/tmp"]  # noqa: S108  of the container
    assert f"driftd:{last('VOLUME')}" in service["volumes"]
    assert seconds(service["stop_grace_period"]) > DRAIN_SECONDS
    assert service["ports"] == [f"127.0.0.1:{PORT}:{PORT}"]
    assert last("EXPOSE") == str(PORT)


def test_each_finds_the_others() -> None:
    prometheus = read(CONFIG / "prometheus" / "prometheus.yml")
    scraped = {job["job_name"]: job["static_configs"][0]["targets"] for job in prometheus["scrape_configs"]}
    assert scraped["driftd"] == [f"driftd:{PORT}"]
    (told,) = prometheus["alerting"]["alertmanagers"]
    assert told["static_configs"][0]["targets"] == scraped["alertmanager"] == ["alertmanager:9093"]
    (source,) = read(ROOT / "dashboards" / "provisioning" / "datasources" / "prometheus.yaml")["datasources"]
    assert source["url"] == "http://prometheus:9090"
    assert source["jsonData"]["timeInterval"] == prometheus["global"]["scrape_interval"]
    assert {"driftd", "alertmanager", "prometheus"} <= set(SERVICES)
    assert SERVICES["prometheus"]["command"][0] == "--config.file=/etc/prometheus/prometheus.yml"
    assert "./prometheus:/etc/prometheus:ro" in SERVICES["prometheus"]["volumes"]
    assert SERVICES["alertmanager"]["command"][0] == "--config.file=/etc/alertmanager/alertmanager.yml"
    assert "./alertmanager:/etc/alertmanager:ro" in SERVICES["alertmanager"]["volumes"]


def kafka_of(config: Config) -> KafkaSettings:
    (source,) = config.sources
    assert isinstance(source, KafkaSettings)
    return source


def test_its_configuration_fits_the_broker_beside_it() -> None:
    config = parse((CONFIG / "compose" / "driftd.yaml").read_text(), "driftd.yaml")
    source = kafka_of(config)
    broker = SERVICES["kafka"]["environment"]
    assert [f"INSIDE://{address}" for address in source.brokers] == broker["KAFKA_ADVERTISED_LISTENERS"].split(",")[:1]
    (script,) = SERVICES["topics"]["command"]
    made = re.findall(r"([\w.]+):\d+", re.search(r"for topic in (.*);", script)[1])  # type: ignore[index]
    assert made == [source.topic, source.dead_letter]
    assert subprocess.run(["sh", "-n"], input=script.replace("$$", "$"), text=True, check=False).returncode == 0
    assert Path(config.store.path).parent == Path(last("VOLUME"))
    assert f"./compose:{Path(json.loads(last('CMD'))[-1]).parent}:ro" in SERVICES["driftd"]["volumes"]


# ---- in a cluster ---------------------------------------------------------------------------------------------------

RESOURCES = {path.stem: read(path) for path in sorted(KUBERNETES.glob("*.yaml"))}
KUSTOMIZATION = RESOURCES.pop("kustomization")
OPERATOR = {"podmonitor": PodMonitor, "prometheusrule": PrometheusRule}
STATEFUL = RESOURCES["statefulset"]["spec"]
POD = STATEFUL["template"]["spec"]
(CONTAINER,) = POD["containers"]
LABELS = {"app.kubernetes.io/name": "driftd"}


@pytest.mark.parametrize("version", KUBERNETES_VERSIONS)
@pytest.mark.parametrize("name", [name for name in RESOURCES if name not in OPERATOR])
def test_resources_keep_to_the_schemas_of_kubernetes(name: str, version: str) -> None:
    kubernetes_validate.validate(RESOURCES[name], version, strict=True)


@pytest.mark.parametrize("name", OPERATOR)
def test_resources_keep_to_the_types_of_the_operator(name: str) -> None:
    # What the type does not know is not in what it gives back.
    taken = OPERATOR[name].model_validate(RESOURCES[name])
    assert taken.model_dump(by_alias=True, exclude_unset=True, mode="json") == RESOURCES[name]


def test_all_resources_are_applied_under_one_name() -> None:
    assert KUSTOMIZATION["resources"] == [f"{name}.yaml" for name in sorted(RESOURCES)]
    for resource in RESOURCES.values():
        assert resource["metadata"] == {"name": "driftd", "labels": LABELS}
    (image,) = KUSTOMIZATION["images"]
    assert image["name"] == CONTAINER["image"]
    assert image["newTag"] == __version__


def test_the_pod_keeps_to_the_restricted_standard() -> None:
    assert STATEFUL["replicas"] == 1
    assert POD["automountServiceAccountToken"] is False
    context = POD["securityContext"]
    user = int(last("USER").split(":")[0])
    assert context["runAsNonRoot"] is True
    assert context["runAsUser"] == context["runAsGroup"] == context["fsGroup"] == user
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert CONTAINER["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(POD)
    assert {kind for volume in POD["volumes"] for kind in volume} == {"name", "configMap", "secret", "emptyDir"}


def test_what_the_pod_mounts_is_there() -> None:
    mounts = {mount["name"]: mount["mountPath"] for mount in CONTAINER["volumeMounts"]}
    (claim,) = STATEFUL["volumeClaimTemplates"]
    assert {volume["name"] for volume in POD["volumes"]} | {claim["metadata"]["name"]} == set(mounts)
    assert mounts["store"] == last("VOLUME")
    assert mounts["tmp"] == "/tmp"  # noqa: S108  of the container
    volumes = {volume["name"]: volume for volume in POD["volumes"]}
    assert volumes["config"]["configMap"]["name"] == RESOURCES["configmap"]["metadata"]["name"]
    (name,) = RESOURCES["configmap"]["data"]
    assert f"{mounts['config']}/{name}" == json.loads(last("CMD"))[-1]
    assert volumes["secrets"]["secret"]["defaultMode"] == 0o440


def test_probes_ask_for_life_and_readiness() -> None:
    (port,) = CONTAINER["ports"]
    assert port["containerPort"] == PORT
    asked = {name: CONTAINER[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness", "readiness")}
    assert asked["startup"] == asked["liveness"] == {"path": "/healthz", "port": port["name"]}
    assert asked["readiness"] == {"path": "/readyz", "port": port["name"]}
    startup = CONTAINER["startupProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] >= 120  # a model is loaded
    assert POD["terminationGracePeriodSeconds"] >= DRAIN_SECONDS + 10
    service = RESOURCES["service"]["spec"]
    assert STATEFUL["serviceName"] == RESOURCES["service"]["metadata"]["name"]
    assert [(each["port"], each["targetPort"]) for each in service["ports"]] == [(PORT, port["name"])]


def test_all_speak_of_the_same_pod() -> None:
    selectors = [
        STATEFUL["selector"]["matchLabels"],
        STATEFUL["template"]["metadata"]["labels"],
        RESOURCES["service"]["spec"]["selector"],
        RESOURCES["podmonitor"]["spec"]["selector"]["matchLabels"],
        RESOURCES["networkpolicy"]["spec"]["podSelector"]["matchLabels"],
    ]
    assert selectors == [LABELS] * 5
    (endpoint,) = RESOURCES["podmonitor"]["spec"]["podMetricsEndpoints"]
    (let_in,) = RESOURCES["networkpolicy"]["spec"]["ingress"]
    assert endpoint["path"] == "/metrics"
    assert endpoint["port"] == CONTAINER["ports"][0]["name"] == let_in["ports"][0]["port"]
    # the label that the rules know driftd by
    assert LABELS[RESOURCES["podmonitor"]["spec"]["jobLabel"]] == "driftd"


def test_memory_is_what_was_promised() -> None:
    asked, most = (CONTAINER["resources"][kind]["memory"] for kind in ("requests", "limits"))
    assert asked == "1200Mi"  # with the embedding model
    assert most == "2Gi"
    assert "cpu" not in CONTAINER["resources"]["limits"]


def test_its_configuration_fits_the_cluster() -> None:
    text = RESOURCES["configmap"]["data"]["driftd.yaml"]
    config = parse(text, "driftd.yaml")
    source = kafka_of(config)
    assert source.security.protocol == "PLAINTEXT"
    mounts = {mount["name"]: Path(mount["mountPath"]) for mount in CONTAINER["volumeMounts"]}
    assert Path(config.store.path).parent == mounts["store"]
    (claim,) = STATEFUL["volumeClaimTemplates"]
    room = int(claim["spec"]["resources"]["requests"]["storage"].removesuffix("Gi")) << 10
    assert room > 2 * config.store.megabytes
    let_out = [port["port"] for rule in RESOURCES["networkpolicy"]["spec"]["egress"] for port in rule["ports"]]
    assert {int(address.rsplit(":", 1)[1]) for address in source.brokers} <= set(let_out)
    assert 53 in let_out
    # with what stands in comments, too
    secured = kafka_of(parse(re.sub(r"(?m)^( +)# (security:|  \w+:)", r"\1\2", text), "driftd.yaml")).security
    for path in (secured.password_file, secured.ca_file):
        assert path is not None
        assert Path(path).parent == mounts["secrets"]


def test_rules_are_the_same_in_a_cluster() -> None:
    groups = [
        group
        for name in ("recording", "alerts")
        for group in read(CONFIG / "prometheus" / "rules" / f"{name}.yaml")["groups"]
    ]
    assert RESOURCES["prometheusrule"]["spec"] == {"groups": groups}

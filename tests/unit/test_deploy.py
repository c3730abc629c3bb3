"""What is deployed is well formed, keeps to the restricted profile, and names only settings and numbers that exist."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from stream_detector import __version__
from stream_detector.errors import ConfigError
from stream_detector.settings import Settings, WorkerSettings, load
from stream_detector.settings.table import written

DEPLOY = Path(__file__).parents[2] / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
NOT_OURS = {"up", "process_resident_memory_bytes"}
SELECTOR = re.compile(r"[a-z]\w*(?=\s*\{)|\b(?:up|process_\w+|stream_detector_\w+)\b")
MADE = re.compile(r"telemetry\.(counter|gauge|histogram)\(\s*\"(\w+)\"")
SUFFIXES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}

TEXT = {"type": "string", "minLength": 1}
COUNT = {"type": "integer", "minimum": 0}


def _closed(required: str, **properties: Any) -> dict[str, Any]:
    """Nothing but these keys; those named are required."""
    return {
        "type": "object",
        "properties": properties,
        "required": required.split(),
        "additionalProperties": False,
    }


# Kinds that are not Kubernetes' own: what their own documentation allows, as far as it is used here.
EXTENSIONS: dict[str, dict[str, Any]] = {
    "ScaledObject": _closed(
        "scaleTargetRef maxReplicaCount triggers",
        scaleTargetRef=_closed("name", apiVersion=TEXT, kind=TEXT, name=TEXT),
        pollingInterval=COUNT,
        cooldownPeriod=COUNT,
        minReplicaCount=COUNT,
        maxReplicaCount=COUNT,
        advanced=_closed("", horizontalPodAutoscalerConfig=_closed("", name=TEXT, behavior={"type": "object"})),
        triggers={
            "type": "array",
            "items": _closed(
                "type metadata",
                type=TEXT,
                metadata={"type": "object", "additionalProperties": TEXT},
                authenticationRef=_closed("name", name=TEXT),
            ),
        },
    ),
    "TriggerAuthentication": _closed(
        "secretTargetRef",
        secretTargetRef={"type": "array", "items": _closed("parameter name key", parameter=TEXT, name=TEXT, key=TEXT)},
    ),
    "ServiceMonitor": _closed(
        "selector endpoints",
        selector={"type": "object"},
        endpoints={"type": "array", "items": _closed("port", port=TEXT, path=TEXT, interval=TEXT)},
    ),
}


def _manifests() -> Iterator[dict[str, Any]]:
    listed = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())["resources"]
    for name in listed:
        yield from yaml.safe_load_all((KUBERNETES / name).read_text())


def _one(kind: str, name: str) -> dict[str, Any]:
    return next(one for one in _manifests() if one["kind"] == kind and one["metadata"]["name"] == name)


def _pods() -> Iterator[dict[str, Any]]:
    return (one["spec"]["template"]["spec"] for one in _manifests() if one["kind"] == "StatefulSet")


def _environment() -> dict[str, str]:
    """What settings.env says."""
    lines = (KUBERNETES / "settings.env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def _numbers() -> set[str]:
    """The names under which the code's numbers are served."""
    names = {"stream_detector_info"}
    for source in (DEPLOY.parent / "stream_detector" / "streaming").rglob("*.py"):
        for kind, name in MADE.findall(source.read_text()):
            names |= {f"stream_detector_{name}{suffix}" for suffix in SUFFIXES[kind]}
    return names


def _rules() -> list[dict[str, Any]]:
    read = yaml.safe_load((DEPLOY / "prometheus" / "rules.yml").read_text())
    return [rule for group in read["groups"] for rule in group["rules"]]


def _panels() -> list[dict[str, Any]]:
    read = json.loads((DEPLOY / "grafana" / "dashboards" / "stream-detector.json").read_text())
    return list(read["panels"])


def _expressions() -> dict[str, str]:
    """Every expression of rules and dashboard, by where it stands."""
    rules = {f"rule {rule['alert']}": rule["expr"] for rule in _rules()}
    panels = {f"panel {p['title']} {t['refId']}": t["expr"] for p in _panels() for t in p.get("targets", ())}
    return rules | panels


@pytest.mark.parametrize("manifest", list(_manifests()), ids=lambda one: f"{one['kind']} {one['metadata']['name']}")
def test_manifests_fit_their_schemas(manifest: dict[str, Any]) -> None:
    """Kubernetes' own kinds fit the published schemas, with no key that they do not know; the others fit ours."""
    if manifest["kind"] in EXTENSIONS:
        jsonschema.validate(manifest["spec"], EXTENSIONS[manifest["kind"]])
    else:
        kubernetes_validate.validate(manifest, "1.35", strict=True)


def test_every_manifest_is_listed() -> None:
    """No file beside kustomization.yaml is forgotten, but for the example of the Secret."""
    listed = set(yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())["resources"])
    assert listed == {path.name for path in KUBERNETES.glob("*.yaml")} - {"kustomization.yaml", "secrets.example.yaml"}


def test_pods_keep_to_the_restricted_profile() -> None:
    """Non-root, read-only root, no capabilities, seccomp, no token, a limit of memory, all probes."""
    for pod in _pods():
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["containers"]:
            safe = container["securityContext"]
            assert safe["readOnlyRootFilesystem"] is True
            assert safe["allowPrivilegeEscalation"] is False
            assert safe["capabilities"] == {"drop": ["ALL"]}
            assert "memory" in container["resources"]["limits"]
            assert {"cpu", "memory"} <= set(container["resources"]["requests"])
            assert {"startupProbe", "livenessProbe", "readinessProbe"} <= set(container)


def test_the_image_has_the_version_of_the_program() -> None:
    """Pods name an image that kustomize gives a fixed tag: this version, not one that moves."""
    images = {one["name"]: one for one in yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())["images"]}
    assert images["stream-detector"]["newTag"] == __version__
    assert {container["image"] for pod in _pods() for container in pod["containers"]} == set(images)


def test_pods_stop_cleanly_and_have_a_stable_slot() -> None:
    """A worker has longer to stop than it takes, its slot is its pod's name, and KEDA alone sets how many there are."""
    worker = _one("StatefulSet", "worker")
    pod = worker["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] * 1000 > 2 * WorkerSettings().shutdown_timeout_ms
    slot = next(one for one in pod["containers"][0]["env"] if one["name"] == "STREAM_DETECTOR_WORKER__SLOT")
    assert slot["valueFrom"] == {"fieldRef": {"fieldPath": "metadata.name"}}
    assert "replicas" not in worker["spec"]
    assert _one("ScaledObject", "worker")["spec"]["scaleTargetRef"]["kind"] == "StatefulSet"


def test_the_environment_holds_settings_that_are_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The program starts with settings.env and the pods' own variables, once the Secret's files are there."""
    for name in yaml.safe_load((KUBERNETES / "secrets.example.yaml").read_text())["stringData"]:
        (tmp_path / name).write_text("secret\n")
    given = _environment()
    for pod in _pods():
        for one in pod["containers"][0]["env"]:
            given[one["name"]] = one.get("value", "worker-0")
    for name, value in given.items():
        monkeypatch.setenv(name, value.replace("/etc/stream-detector/secrets", str(tmp_path)))
    settings = load()
    assert settings.worker.slot == "worker-0"
    assert settings.http.host == "0.0.0.0"  # noqa: S104 - inside its pod
    files = [settings.kafka.sasl_password_file, settings.kafka.ssl_cafile, settings.redis.password_file]
    assert all(file and file.is_file() for file in files)


def test_keda_reads_the_lag_of_the_group_that_reads() -> None:
    """What is said twice, since KEDA has its own settings, is said alike."""
    given = _environment()
    trigger = _one("ScaledObject", "worker")["spec"]["triggers"][0]["metadata"]
    assert trigger["bootstrapServers"] == given["STREAM_DETECTOR_KAFKA__BOOTSTRAP_SERVERS"]
    assert trigger["consumerGroup"] == given["STREAM_DETECTOR_KAFKA__GROUP_ID"]
    assert trigger["topic"] == given["STREAM_DETECTOR_KAFKA__READINGS_TOPIC"]
    assert trigger["username"] == given["STREAM_DETECTOR_KAFKA__SASL_USERNAME"]
    keys = set(yaml.safe_load((KUBERNETES / "secrets.example.yaml").read_text())["stringData"])
    assert {
        one["key"] for one in _one("TriggerAuthentication", "stream-detector-kafka")["spec"]["secretTargetRef"]
    } <= keys


@pytest.mark.parametrize(("where", "expression"), list(_expressions().items()), ids=lambda one: one[:40])
def test_rules_and_dashboard_name_numbers_that_exist(where: str, expression: str) -> None:
    """Every number of an expression is served by the code under that very name."""
    named = set(SELECTOR.findall(expression))
    assert named, f"{where} names no number"
    assert named <= _numbers() | NOT_OURS, f"{where}: there is no {named - _numbers() - NOT_OURS}"


def test_every_rule_has_its_place_on_the_operations_page_and_a_test() -> None:
    """Severity, summary, a link to a heading of its name; fires in one promtool test and is quiet in another."""
    headings = re.findall(r"^### (\w+)$", (DEPLOY / "README.md").read_text(), re.MULTILINE)
    tests = yaml.safe_load((DEPLOY / "prometheus" / "rules_test.yml").read_text())["tests"]
    checks = [check for test in tests for check in test["alert_rule_test"]]
    rules = _rules()
    assert headings == [rule["alert"] for rule in rules]
    for rule in rules:
        name = rule["alert"]
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["annotations"]["runbook"] == f"deploy/README.md#{name.lower()}"
        outcomes = {bool(check["exp_alerts"]) for check in checks if check["alertname"] == name}
        assert outcomes == {True, False}, f"{name} needs a test in which it fires and one in which it does not"


def test_prometheus_scrapes_the_services_by_name() -> None:
    """The jobs are those that the rules ask for, on the port that the program serves."""
    jobs = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())["scrape_configs"]
    assert {job["job_name"]: job["dns_sd_configs"][0]["names"] for job in jobs} == {
        "worker": ["worker"],
        "trainer": ["trainer"],
        "forwarder": ["forwarder"],
    }
    assert {job["dns_sd_configs"][0]["port"] for job in jobs} == {Settings().http.port}


def test_the_dashboard_uses_the_provisioned_source_and_fits_its_grid() -> None:
    """Ids are unique, panels do not overlap, each is explained, and each asks the source that is provisioned."""
    sources = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/prometheus.yml").read_text())["datasources"]
    panels = _panels()
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        cells = {(at["x"] + i, at["y"] + j) for i in range(at["w"]) for j in range(at["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells
        for target in panel.get("targets", ()):
            assert target["datasource"]["uid"] == sources[0]["uid"]
            assert panel["description"]


def test_the_table_of_settings_is_what_the_settings_are() -> None:
    """`python -m stream_detector.settings.table deploy/README.md` writes it anew; no default is a secret."""
    page = (DEPLOY / "README.md").read_text()
    assert written(page) == page
    assert (
        "`kafka.sasl_password` | `STREAM_DETECTOR_KAFKA__SASL_PASSWORD` |  | its password (secret: never printed)"
        in page
    )
    with pytest.raises(ConfigError, match="has no <!-- settings -->"):
        written("# A page")

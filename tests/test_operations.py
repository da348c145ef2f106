"""The examples for operators can be used as they are."""

from __future__ import annotations

import re

import pytest
import yaml

from tests.operations import FOLDER, alerts, asked, dashboard, expressions
from worker.settings import settings_table

README = (FOLDER / "README.md").read_text()


def test_every_expression_can_be_read_and_asks_for_something():
    for expression in expressions():
        assert asked(expression), expression


def test_an_expression_that_cannot_be_read_would_be_noticed():
    with pytest.raises(ValueError, match="parenthesis"):
        asked("sum(rate(sigctl_jobs_total[5m])")


def test_every_alert_says_how_bad_it_is_and_the_readme_what_to_do():
    names = [rule["alert"] for rule in alerts()]
    assert len(set(names)) == len(names)
    for rule in alerts():
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["annotations"]["summary"].endswith(".")
        assert f"| {rule['alert']} |" in README
    assert set(re.findall(r"^\| (Sigctl\w+) \|", README, re.M)) == set(names)


def test_every_metric_that_is_asked_for_is_explained():
    suffix = re.compile(r"_(bucket|sum|count)$")
    for expression in expressions():
        for name, _ in asked(expression):
            if name.startswith("sigctl_"):
                assert f"`{suffix.sub('', name)}`" in README, name


def test_the_dashboard_can_be_imported():
    found = dashboard()
    ids = [panel["id"] for panel in found["panels"]]
    assert len(set(ids)) == len(ids)
    assert found["templating"]["list"][0]["type"] == "datasource"
    cells = set()
    for panel in found["panels"]:
        assert panel["datasource"]["uid"] == "${datasource}"
        place = panel["gridPos"]
        rows = range(place["y"], place["y"] + place["h"])
        covered = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in rows}
        assert max(x for x, _ in covered) < 24
        assert not cells & covered, panel["title"]
        cells |= covered


@pytest.fixture
def manifests():
    found = yaml.safe_load_all((FOLDER / "kubernetes.yaml").read_text())
    return {manifest["kind"]: manifest for manifest in found}


@pytest.fixture
def pods(manifests):
    return [manifests[kind]["spec"]["template"]["spec"] for kind in ("Job", "Deployment")]


def test_kubernetes_gives_only_real_settings_and_takes_secrets_from_a_secret(manifests, pods):
    known = {setting.variable for setting in settings_table()}
    assert set(manifests["ConfigMap"]["data"]) <= known
    given = {entry["name"]: entry for pod in pods for entry in pod["containers"][0]["env"]}
    assert set(given) <= known
    assert all("secretKeyRef" in entry["valueFrom"] for entry in given.values())
    secret = re.compile(r"_(KEY|URL)$")
    assert {name for name in given if secret.search(name)} == set(given)
    assert not [name for name in manifests["ConfigMap"]["data"] if secret.search(name)]


def test_kubernetes_runs_without_any_right(pods):
    for pod in pods:
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] > 0
        # The variables of a Service called `sigctl` would look like settings.
        assert pod["enableServiceLinks"] is False
        (container,) = pod["containers"]
        rights = container["securityContext"]
        assert rights["readOnlyRootFilesystem"] is True
        assert rights["allowPrivilegeEscalation"] is False
        assert rights["capabilities"] == {"drop": ["ALL"]}
        assert {mount["mountPath"] for mount in container["volumeMounts"]} == {"/tmp"}
        assert all("emptyDir" in volume for volume in pod["volumes"])


def test_kubernetes_probes_the_port_that_the_worker_opens(manifests, pods):
    (container,) = pods[1]["containers"]
    data = manifests["ConfigMap"]["data"]
    (port,) = container["ports"]
    assert str(port["containerPort"]) == data["SIGCTL_HEALTH_PORT"]
    assert data["SIGCTL_HEALTH_HOST"] == "0.0.0.0"
    probes = {name: container[name]["httpGet"] for name in container if name.endswith("Probe")}
    assert {name: probe["path"] for name, probe in probes.items()} == {
        "startupProbe": "/live",
        "livenessProbe": "/live",
        "readinessProbe": "/ready",
    }
    assert {probe["port"] for probe in probes.values()} == {port["name"]}


def test_compose_asks_the_port_that_its_worker_opens():
    compose = yaml.safe_load((FOLDER.parents[1] / "docker-compose.yml").read_text())
    for name in ("worker", "worker-gpu"):
        service = compose["services"][name]
        port = service["environment"]["SIGCTL_HEALTH_PORT"]
        assert f"http://127.0.0.1:{port}/ready" in " ".join(service["healthcheck"]["test"])

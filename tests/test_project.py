"""The files around the code say what the code does, and the packages keep to their arrows."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from worker.settings import settings_table

ROOT = Path(__file__).parents[1]


def test_the_packages_import_only_what_they_may():
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_readme_lists_every_setting_with_its_meaning():
    readme = (ROOT / "README.md").read_text()
    for setting in settings_table():
        assert f"| `{setting.variable}` | {setting.meaning} |" in readme


def test_the_readme_has_a_line_for_every_source_file():
    tree = (ROOT / "README.md").read_text().split("## The tree")[1]
    for package in ("model", "storage", "worker", "migrations", "bench"):
        for path in (ROOT / package).rglob("*.py"):
            if path.name != "__init__.py":
                assert re.search(rf"^  {re.escape(path.name)}\s+\S", tree, re.M), path


def test_the_readmes_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+)\)", (ROOT / "README.md").read_text()):
        assert (ROOT / target).exists(), target


def test_the_example_environment_names_only_real_settings():
    known = {setting.variable for setting in settings_table()}
    named = re.findall(r"\bSIGCTL_[A-Z0-9_]+", (ROOT / ".env.example").read_text())
    assert set(named) <= known


@pytest.fixture
def compose():
    return yaml.safe_load((ROOT / "docker-compose.yml").read_text())


def test_compose_pins_its_images_and_uses_none_that_is_gone(compose):
    for name, service in compose["services"].items():
        image = service["image"]
        assert re.search(r":\d", image), f"{name}: {image} is not pinned"
        assert "minio" not in image


def test_compose_has_no_default_secret(compose):
    text = (ROOT / "docker-compose.yml").read_text()
    for secret in ("REDIS_PASSWORD", "POSTGRES_PASSWORD", "S3_SECRET_KEY"):
        assert f"{{{secret}:?" in text
        assert f"{{{secret}:-" not in text
    assert re.findall(r"^(?!#)\s*[A-Z_]*(?:PASSWORD|SECRET_KEY)=\S", _example(), re.M) == []


def _example():
    return (ROOT / ".env.example").read_text()


def test_compose_gives_the_worker_only_real_settings(compose):
    known = {setting.variable for setting in settings_table()}
    for service in ("worker", "worker-gpu", "migrate", "cli"):
        given = set(compose["services"][service]["environment"])
        assert given <= known, given - known


def test_every_service_of_compose_is_watched_or_ends(compose):
    for name, service in compose["services"].items():
        assert "healthcheck" in service or service.get("restart") == "no", name

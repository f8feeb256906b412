"""Runs in Postgres by one environment variable; the address stays there."""

from __future__ import annotations

import pytest

from vlaw_assets.pipeline import driver
from vlaw_assets.pipeline.driver import DAGSTER_YAML, IN_POSTGRES, POSTGRES
from vlaw_models.errors import VlawError

ADDRESS = "postgresql+psycopg2://vlaw:hidden-5c1d@127.0.0.1:1/vlaw"


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    monkeypatch.delenv(POSTGRES, raising=False)
    monkeypatch.setattr(driver, "find_spec", lambda _name: object())
    return tmp_path


def test_one_variable_is_all(home, monkeypatch):
    config = driver.dagster_home() / "dagster.yaml"
    assert config.read_text() == DAGSTER_YAML
    monkeypatch.setenv(POSTGRES, ADDRESS)
    for _ in range(2):
        driver.dagster_home()
        assert config.read_text() == DAGSTER_YAML + IN_POSTGRES
    assert "hidden-5c1d" not in config.read_text()
    config.unlink()
    driver.dagster_home()
    assert config.read_text() == DAGSTER_YAML + IN_POSTGRES
    monkeypatch.delenv(POSTGRES)
    with pytest.raises(VlawError, match="runs of this home are in Postgres, and VLAW_POSTGRES is not set"):
        driver.dagster_home()
    assert config.read_text() == DAGSTER_YAML + IN_POSTGRES


def test_a_file_of_a_person_is_left_alone(home, monkeypatch):
    own = "telemetry:\n  enabled: false\n"
    (home / "dagster.yaml").write_text(own)
    driver.dagster_home()
    monkeypatch.setenv(POSTGRES, ADDRESS)
    with pytest.raises(VlawError, match="does not use it") as caught:
        driver.dagster_home()
    assert "postgres_url:" in str(caught.value)
    assert "hidden-5c1d" not in str(caught.value)
    assert (home / "dagster.yaml").read_text() == own


def test_what_is_not_installed_is_said_before_anything_is_written(home, monkeypatch):
    monkeypatch.setenv(POSTGRES, ADDRESS)
    monkeypatch.setattr(driver, "find_spec", lambda _name: None)
    with pytest.raises(VlawError, match="dagster-postgres is not installed"):
        driver.dagster_home()
    monkeypatch.setattr(driver, "find_spec", lambda _name: object())
    monkeypatch.setenv(POSTGRES, ADDRESS.replace("+psycopg2", ""))
    with pytest.raises(VlawError, match="is not of the form") as caught:
        driver.dagster_home()
    assert "hidden-5c1d" not in str(caught.value)
    assert list(home.iterdir()) == []

"""What a monitoring system sees of a bot at work, read by Prometheus's own parser."""

import io
import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from bot import logs
from tests.scenarios.town import Town

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture
def town(tmp_path: Path, logs_as_before: None) -> Iterator[Town]:
    """Return a town whose bot is watched."""
    with Town(tmp_path, extra='[operating]\nlisten = "127.0.0.1:0"\n') as built:
        yield built


def get(town: Town, page: str) -> httpx.Response:
    """Return a page of the bot's web server."""
    assert town.bot
    return httpx.get(f"{town.bot.servers[0].url}/{page}", timeout=10)


def scrape(town: Town) -> Samples:
    """Return all samples by name and labels, as Prometheus reads them."""
    answer = get(town, "metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    families = list(text_string_to_metric_families(answer.text))
    assert len({family.name for family in families}) == len(families)
    assert all(family.documentation and family.type != "unknown" for family in families)
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


def value(samples: Samples, name: str, **labels: str) -> float:
    """Return the value of one sample, 0 where it was never counted."""
    return samples.get((name, frozenset(labels.items())), 0.0)


def test_a_rotation_is_counted_and_timed(town: Town) -> None:
    """Approvals that wait, runs, targets, steps, dealings with all three sides, expiry; and no name of anything."""
    before = scrape(town)
    assert value(before, "octocert_slack_connected") == 1
    root = town.ask("rita", "rotate web-01 legacy-01")
    assert value(scrape(town), "octocert_approvals_waiting") == 1
    town.press("ada", root, "Approve")
    town.end(root)
    town.says(root, "2 healthy")
    after = town.wait(lambda: (s := scrape(town)) and value(s, "octocert_runs_open", state="running") == 0 and s, 30)

    def more(name: str, **labels: str) -> float:
        return value(after, name, **labels) - value(before, name, **labels)

    assert value(after, "octocert_approvals_waiting") == 0
    assert more("octocert_runs_total", state="proposed") == 1
    assert more("octocert_runs_total", state="finished") == 1
    assert more("octocert_targets_total", outcome="healthy") == 2
    assert more("octocert_target_seconds_count", outcome="healthy") == 2
    assert more("octocert_step_seconds_count", step="visit", result="done") == 2
    assert more("octocert_winrm_visit_seconds_count", script="apply", result="done") >= 2
    assert more("octocert_winrm_visit_seconds_count", script="inspect", result="done") == 2
    assert more("octocert_octopus_request_seconds_count", method="PUT", status="200") == 2
    assert more("octocert_slack_call_seconds_count", method="chat.postMessage", result="ok") >= 3
    assert value(after, "octocert_certificates", within_days="+Inf") >= 2
    assert value(after, "octocert_certificate_days_left") > 0
    text = get(town, "metrics").text
    for secret_of_the_estate in ("web-01", "legacy-01", town.tentacle("web-01").host.address, "rita", "ada", "r-"):
        assert secret_of_the_estate not in text.replace("octocert-", "")


def test_failures_and_retries_are_counted_by_kind(town: Town) -> None:
    """A host out of reach, a Slack that asks for a slower pace."""
    before = scrape(town)
    town.slack.faults.rate_limited = 1
    town.ask("rita", "show-thumbprint lost-01")
    after = scrape(town)
    for name, labels in (
        ("octocert_failures_total", {"part": "winrm", "kind": "unreachable"}),
        ("octocert_failures_total", {"part": "slack", "kind": "ratelimited"}),
        ("octocert_retries_total", {"part": "winrm"}),
    ):
        assert value(after, name, **labels) > value(before, name, **labels), name


def test_ready_means_that_work_can_be_done(town: Town) -> None:
    """Slack gone: not ready, with the reason, and alive all the same; Slack back: ready."""
    assert get(town, "readyz").json() == {"ok": True, "parts": {"slack": "ok", "database": "ok", "engine": "ok"}}
    town.slack.close()
    answer = town.wait(lambda: (a := get(town, "readyz")).status_code == 503 and a, 60)
    assert "no Socket Mode connection" in answer.json()["parts"]["slack"]
    assert answer.json()["parts"]["database"] == "ok"
    assert get(town, "healthz").status_code == 200
    town.slack.start()
    town.wait(lambda: get(town, "readyz").status_code == 200, 60)


def test_every_line_about_a_target_names_run_target_and_step(town: Town) -> None:
    """Whoever reads the log of a failure filters by them."""
    written = io.StringIO()
    logs.configure("INFO", "json", written)
    root = town.rotate("web-02")
    town.says(root, "healthy")
    lines = [json.loads(line) for line in written.getvalue().splitlines()]
    mine = [line for line in lines if line.get("step")]
    assert mine
    assert {line["run"] for line in mine} == {next(line["run"] for line in lines if line.get("kind") == "approved")}
    assert {"visit", "conclude"} <= {line["step"] for line in mine}
    changed = next(line for line in mine if line["step"] == "visit")
    assert changed["target"] == "web-02"

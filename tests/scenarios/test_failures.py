"""Each thing that may go wrong ends in a good state and a clear message. Nothing is left stopped."""

from datetime import timedelta
from pathlib import Path

from bot.domain.facts import ServiceState, Style, Trust
from tests.scenarios.town import Town


def assert_as_before(town: Town, name: str, old: str) -> None:
    """Assert that a Tentacle runs and serves what it had before."""
    one = town.tentacle(name)
    assert one.service.state is ServiceState.RUNNING
    assert one.configured == old
    assert one.served == old
    assert town.sandbox.consistent(name)


def test_an_import_that_fails_costs_no_outage(town: Town) -> None:
    """The service was never stopped; the thread shows the program's own line and what to do."""
    web = town.tentacle("web-01")
    old, process = str(web.configured), web.service.process
    web.host.faults.import_fails = "The certificate data cannot be read with the provided password."
    root = town.ask("rita", "rotate web-01 --with pfx:demo")
    town.press("ada", root, "Approve")
    town.end(root)
    assert_as_before(town, "web-01", old)
    assert web.service.process == process
    thread = town.says(root, "cannot be read with the provided password")
    assert "Nothing had to be put back" in thread
    town.clock.shift = timedelta(hours=25)
    town.wait(lambda: not list((web.host.program_data / "octocert").glob("*/Tentacle.config")))


def test_an_import_that_lies_is_found_out_and_undone(town: Town) -> None:
    """The program reports success, the service then never listens: the old certificate is put back."""
    web = town.tentacle("web-01")
    old = str(web.configured)
    web.host.faults.import_lies = True
    root = town.ask("rita", "rotate web-01 --with pfx:demo")
    town.press("ada", root, "Approve")
    town.end(root)
    assert_as_before(town, "web-01", old)
    assert "undone" in town.says(root, "undone").casefold()


def test_a_service_that_stops_too_late_is_started_by_its_backstop(town: Town) -> None:
    """It was still stopping when the visit's time was up; later it stops, and the task on the host starts it."""
    web = town.tentacle("web-01")
    web.host.faults.late_stop = 5.0
    root = town.rotate("web-01", seconds=90)
    assert town.thread(root)
    town.wait(lambda: web.service.state is ServiceState.RUNNING, 100)


def test_a_lost_connection_in_mid_visit_is_gone_on_from(town: Town) -> None:
    """Cut between stop and start: the host finished by itself, the bot asks and goes on."""
    town.tentacle("web-01").host.faults.cut_at = "stopping"
    root = town.rotate("web-01")
    town.assert_good("web-01")
    assert town.effects("web-01", "make") == 1
    assert "healthy" in town.says(root, "healthy")


def test_a_killed_shell_leaves_nothing_stopped(town: Town) -> None:
    """The script is killed between stop and start, `finally` included: the host starts the service, the bot goes on."""
    web = town.tentacle("web-01")
    web.host.faults.kill_shell_at = "stopped"
    town.rotate("web-01", seconds=100)
    town.wait(lambda: web.service.state is ServiceState.RUNNING, 100)
    assert town.effects("web-01", "make") == 1


def test_a_wrong_password_is_one_sentence_and_one_try(town: Town) -> None:
    """Accounts lock: the login is not tried again."""
    town.tentacle("web-01").host.faults.wrong_password = True
    answer = town.ask("rita", "rotate web-01")
    assert "refused the login" in answer.content
    assert "Approve" not in answer.buttons


def test_a_wrong_password_stops_a_fleet_before_the_account_locks(tmp_path: Path) -> None:
    """Changed between plan and click: a login or two are refused, the run stops itself, and a mended secret goes on."""
    names = [f"web-{n:02}" for n in range(3, 27)]
    with Town(tmp_path, hosts=36) as town:
        root = town.ask("rita", f"rotate {' '.join(names)}")
        secret = town.sandbox.state / "secrets" / "winrm-password"
        right = secret.read_text()
        secret.write_text("expired\n")
        before = sum(n["refused"] for n in town.sandbox.winrm.operations.values())
        town.press("ada", root, "Approve")
        town.end(root, 90)
        assert sum(n["refused"] for n in town.sandbox.winrm.operations.values()) - before == 1
        for name in names:
            assert town.effects(name, "make") == 0
            assert town.sandbox.consistent(name)
        secret.write_text(right)
        town.rotate("web-03 web-04")
        town.assert_good("web-03")


def test_an_unreachable_host_skips_its_target_and_leaves_the_others(town: Town) -> None:
    """It was there when the plan was made, and is gone at the click."""
    root = town.ask("rita", "rotate web-01 web-02")
    town.tentacle("web-02").host.faults.unreachable = True
    town.press("ada", root, "Approve")
    town.end(root, 90)
    town.assert_good("web-01")
    assert "skipped" in town.says(root, "skipped")


def test_octopus_that_is_rate_limited_and_restarts_is_waited_for(town: Town) -> None:
    """429 and 500 in the middle of a run: the records are corrected all the same."""
    root = town.ask("rita", "rotate web-01")
    town.octopus.faults.rate_limited = 2
    town.octopus.faults.server_errors = 2
    town.press("ada", root, "Approve")
    town.end(root, 90)
    town.assert_good("web-01")


def test_a_node_that_caches_the_old_thumbprint_is_given_time(town: Town) -> None:
    """The first health check after the PUT fails; it is repeated before anything is judged."""
    root = town.ask("rita", "rotate web-01")
    town.octopus.faults.cache_seconds = 1.0
    town.press("ada", root, "Approve")
    town.end(root, 90)
    town.assert_good("web-01")


def test_health_that_stays_queued_is_not_proven_and_not_undone(town: Town) -> None:
    """The task cap is reached: nobody can say whether it is healthy, so nobody does."""
    town_with_short_patience = town
    root = town_with_short_patience.ask("rita", "rotate web-01")
    old = str(town.tentacle("web-01").configured)
    town.octopus.faults.queued_forever = True
    town.press("ada", root, "Approve")
    town.end(root, 90)
    assert "not proven" in town.says(root, "not proven")
    assert str(town.tentacle("web-01").configured) != old
    assert town.sandbox.consistent("web-01")


def test_bad_health_that_is_not_the_certificates_fault_is_reported_not_undone(town: Town) -> None:
    """A full disk after the rotation: unhealthy beside its baseline, and the new certificate stays."""
    record = town.sandbox.estate.records["web-01"][0]
    root = town.ask("rita", "rotate web-01")
    town.octopus.faults.script_health[record] = "Unhealthy"
    town.press("ada", root, "Approve")
    town.end(root)
    assert "before the run: Healthy" in town.says(root, "before the run")
    assert town.sandbox.consistent("web-01")


def test_a_running_deployment_is_waited_for(town: Town) -> None:
    """The service is not restarted under it."""
    record = town.sandbox.estate.records["web-01"][0]
    root = town.ask("rita", "rotate web-01")
    task = town.octopus.start_deployment(record, 4.0)
    town.press("ada", root, "Approve")
    town.wait(lambda: "waiting for" in town.slack.message(root.ts).content)
    assert town.effects("web-01", "stop") == 0
    town.end(root, 90)
    town.assert_good("web-01")
    assert town.octopus.tasks.get(task).state == "Success"


def test_the_host_itself_looks_for_the_last_time(town: Town) -> None:
    """A program runs under one Tentacle, which is waited for; another one trusts somebody new, and is not touched."""
    busy, changed = town.tentacle("web-01"), town.tentacle("web-02")
    root = town.ask("rita", "rotate web-01 web-02")
    assert busy.service.process
    pid, old = busy.service.process.pid, str(changed.configured)
    busy.host.begin_child(pid, "Calamari.exe")
    changed.trust(Trust(text="AB" * 20, style=Style.LISTENING))
    town.press("ada", root, "Approve")
    town.wait(lambda: "waiting for the program Calamari.exe" in town.slack.message(root.ts).content)
    assert busy.service.process.pid == pid
    busy.host.end_child(pid, "Calamari.exe")
    town.end(root, 90)
    town.assert_good("web-01")
    assert_as_before(town, "web-02", old)
    assert "AB" * 20 in town.says(root, "web-02 has changed since it was approved")


def test_a_target_that_stays_busy_is_skipped(town: Town) -> None:
    """Bounded: after the deadline it is left as it is, and the thread says what it was busy with."""
    record = town.sandbox.estate.records["web-01"][0]
    old = str(town.tentacle("web-01").configured)
    town.octopus.start_deployment(record, 600.0)
    root = town.rotate("web-01", seconds=60)
    assert "still busy" in town.says(root, "still busy")
    assert town.tentacle("web-01").configured == old


def test_a_record_that_vanished_is_reported_and_not_made_again(town: Town) -> None:
    """A policy deleted one of the two records in mid-run; the other is corrected."""
    first, second = town.sandbox.estate.records["shared-01"]
    root = town.ask("rita", "rotate shared-01")
    town.octopus.faults.vanishing.add(second)
    town.press("ada", root, "Approve")
    town.end(root, 90)
    assert "no longer in Octopus" in town.thread(root) or "changed since it was approved" in town.thread(root)
    assert town.octopus.exists(first)


def test_the_watchdog_does_not_confuse_the_documented_order(town: Town) -> None:
    """It starts the stopped service with the old certificate; the new one is served all the same."""
    web = town.tentacle("web-02")
    web.host.faults.watchdog_restarts = True
    town.rotate("web-02 --order documented")
    town.assert_good("web-02")


def test_slack_away_in_mid_run_loses_no_message(town: Town) -> None:
    """429, 500 and a lost connection while the run goes on: the thread is whole at the end, and nothing twice."""
    root = town.ask("rita", "rotate web-01")
    town.press("ada", root, "Approve")
    town.slack.faults.server_errors = 3
    town.slack.faults.rate_limited = 2
    town.slack.faults.disconnect()
    town.end(root, 90)
    town.assert_good("web-01")
    town.says(root, "healthy")
    replies = [m.content for m in town.slack.thread(root.ts)[1:]]
    assert len(replies) == len(set(replies))

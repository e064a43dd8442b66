"""The rules of a Tentacle's rotation, one by one."""

from bot.domain.facts import ServiceState, Style, Trust
from bot.sandbox.octopus.permissions import SPACE_PERMISSIONS, SYSTEM_PERMISSIONS, Grant
from tests.scenarios.town import Town

OTHER_SERVER = "0123456789ABCDEF0123456789ABCDEF01234567"


def test_a_pool_keeps_a_healthy_worker_all_the_time(town: Town) -> None:
    """Both workers of a pool are asked for: one goes after the other, each seen healthy before the next begins."""
    before = len(town.world.effects)
    town.rotate("worker-01 worker-02", seconds=90)
    town.assert_good("worker-01")
    town.assert_good("worker-02")
    done = [e.kind for e in town.world.effects[before:] if e.host.startswith("worker-")]
    assert [k for k in done if k in {"stop", "running"}] == ["stop", "running"] * 2, "never two at once"


def test_the_last_healthy_worker_needs_an_acknowledgement(town: Town) -> None:
    """The refusal names what to add; with it the plan says what the approver accepts."""
    town.octopus.edit(town.sandbox.estate.records["worker-02"][0], HealthStatus="Unavailable")
    refused = town.ask("rita", "rotate worker-01")
    assert "last-worker:Windows workers" in refused.content
    root = town.ask("rita", 'rotate worker-01 --accept "last-worker:Windows workers"')
    assert "no healthy worker while" in root.content
    town.press("ada", root, "Approve")
    town.end(root)
    town.assert_good("worker-01")


def test_a_worker_whose_script_still_runs_is_waited_for(town: Town) -> None:
    """Octopus has no task list for workers: the Tentacle's child processes tell."""
    worker = town.tentacle("worker-01")
    process = worker.service.process
    assert process
    worker.host.begin_child(process.pid, "Calamari.exe")
    root = town.ask("rita", "rotate worker-01")
    assert "Calamari.exe" in root.content
    town.press("ada", root, "Approve")
    town.wait(lambda: "waiting for the program Calamari.exe" in town.slack.message(root.ts).content)
    assert worker.service.process == process
    worker.host.end_child(process.pid, "Calamari.exe")
    town.end(root)
    town.assert_good("worker-01")


def test_trust_in_another_server_needs_an_acknowledgement(town: Town) -> None:
    """Another Server has a record that this run will break; its trust is still there afterwards."""
    web = town.tentacle("web-01")
    web.trust(Trust(text=OTHER_SERVER, style=Style.LISTENING))
    refused = town.ask("rita", "rotate web-01")
    assert "--accept other-server:01234567" in refused.content
    root = town.ask("rita", "rotate web-01 --accept other-server:01234567")
    town.press("ada", root, "Approve")
    town.end(root)
    town.assert_good("web-01")
    assert OTHER_SERVER in {t.text for t in web.trusted}


def test_without_the_permission_for_every_record_nothing_is_begun(town: Town) -> None:
    """All records or none: the key may edit the one in Default, and only look at the one in Payments."""
    looks = [Grant(permission=p) for p in (*SPACE_PERMISSIONS, *SYSTEM_PERMISSIONS) if not p.endswith("Edit")]
    edits = [Grant(permission=p, space=town.octopus.space("Default")) for p in SPACE_PERMISSIONS if p.endswith("Edit")]
    key = town.octopus.add_api_key("narrow", [*looks, *edits])
    (town.sandbox.state / "secrets" / "octopus-api-key").write_text(key)
    refused = town.ask("rita", "rotate shared-01")
    assert "Approve" not in refused.buttons
    assert "MachineEdit" in refused.content
    assert "Payments" in refused.content


def test_a_service_that_hangs_is_reported_with_its_process_and_not_killed(town: Town) -> None:
    """Whoever must act reads which process it is; our task on the host starts the service once it has stopped."""
    web = town.tentacle("web-01")
    process = web.service.process
    assert process
    web.host.faults.stuck_stop = True
    root = town.rotate("web-01", seconds=100)
    thread = town.says(root, "failed")
    assert str(process.pid) in thread
    assert web.service.process == process
    assert web.service.state is ServiceState.STOP_PENDING
    assert "StopPending" in thread


def test_a_clone_is_refused(town: Town) -> None:
    """Two machines with one certificate: rotating the one would leave nobody sure which is which."""
    clone = town.tentacle("web-02")
    instance = town.tentacle("web-01")
    town.octopus.edit(
        town.sandbox.estate.records["web-02"][0],
        Endpoint={
            **town.octopus.document(town.sandbox.estate.records["web-02"][0])["Endpoint"],
            "Thumbprint": str(instance.configured),
        },
    )
    refused = town.ask("rita", "rotate web-01")
    assert "cloned certificate" in refused.content
    assert "web-02" in refused.content
    assert clone.service.state is ServiceState.RUNNING


def test_two_runs_never_work_on_one_host(town: Town) -> None:
    """The second run finds the host taken and leaves its target as it is."""
    record = town.sandbox.estate.records["app-01-blue"][0]
    first = town.ask("rita", "rotate app-01-blue")
    second = town.ask("rita", "rotate app-01-green")
    town.octopus.start_deployment(record, 6.0)
    town.press("ada", first, "Approve")
    town.wait(lambda: "waiting for" in town.slack.message(first.ts).content)
    town.press("ada", second, "Approve")
    town.end(second)
    assert "is working on its host" in town.says(second, "working on its host")
    town.end(first, 90)
    town.assert_good("app-01-blue")

"""A rotation from the first word to the last."""

from tests.scenarios.town import Town


def test_rita_asks_ada_approves_and_the_certificate_is_another(town: Town) -> None:
    """Plan, refused self-approval, approval, new certificate everywhere, both thumbprints in the thread."""
    web = town.tentacle("web-01")
    old, process = str(web.configured), web.service.process

    root = town.ask("rita", "rotate web-01 --reason “yearly rotation”")
    assert "web-01" in root.content
    assert old in root.content
    assert "yearly rotation" in root.content

    town.press("rita", root, "Approve")
    assert "somebody else must approve" in town.whisper("rita", "yourself")
    town.press("otto", root, "Approve")
    assert "not an approver" in town.whisper("otto", "approver")
    assert web.configured == old
    assert web.service.process == process, "nothing stops before an approval"

    town.press("ada", root, "Approve")
    root = town.end(root)
    new = str(web.configured)
    assert new != old
    town.assert_good("web-01")
    assert web.service.process != process
    thread = town.says(root, "healthy")
    assert old in thread
    assert new in thread
    assert town.effects("web-01", "make") == 1


def test_a_record_with_an_invisible_mark_is_shown_and_put_right(town: Town) -> None:
    """Somebody copied the thumbprint out of a dialog of Windows; to people it looks right, and Octopus refuses it."""
    (id_,) = town.sandbox.estate.records["web-02"]
    old = str(town.tentacle("web-02").configured)
    town.octopus.edit(id_, Thumbprint=f"\u200e{old}")
    assert town.octopus.check(id_) == {id_: "Unavailable"}
    assert rf"\u200e{old}" in town.ask("rita", "show-thumbprint web-02").content
    root = town.ask("rita", "rotate web-02")
    assert "this run puts it right" in root.content
    town.press("ada", root, "Approve")
    town.end(root)
    town.assert_good("web-02")


def test_a_polling_tentacle_is_recorded_before_it_returns(town: Town) -> None:
    """It polls again with its new certificate, and Octopus knows it already."""
    old = str(town.tentacle("edge-01").configured)
    root = town.rotate("edge-01")
    town.assert_good("edge-01")
    assert str(town.tentacle("edge-01").configured) != old
    assert "healthy" in town.says(root, "healthy")


def test_a_pfx_is_imported_and_leaves_nothing_behind(town: Town) -> None:
    """The key travels once, and no file of it stays on the host."""
    web = town.tentacle("web-01")
    root = town.ask("rita", "rotate web-01 --with pfx:demo")
    assert "CN=web-01.corp.example" in root.content
    town.press("ada", root, "Approve")
    town.end(root)
    town.assert_good("web-01")
    assert town.effects("web-01", "import") == 1
    assert not list(web.host.root.rglob("*.pfx"))


def test_one_tentacle_in_two_spaces_has_both_records_corrected(town: Town) -> None:
    """All records or none."""
    root = town.rotate("shared-01")
    town.assert_good("shared-01")
    assert "Payments" in town.says(root, "Payments")


def test_two_instances_on_a_host_are_told_apart(town: Town) -> None:
    """Rotating blue leaves green as it was."""
    green = str(town.tentacle("app-01-green").configured)
    town.rotate("app-01-blue")
    town.assert_good("app-01-blue")
    assert str(town.tentacle("app-01-green").configured) == green


def test_several_at_once_go_in_waves(town: Town) -> None:
    """The canary first, then the rest; every one of them good at the end."""
    names = ["web-01", "web-02", "worker-01", "edge-02"]
    root = town.rotate(" ".join(names))
    for name in names:
        town.assert_good(name)
    assert "4 healthy" in town.says(root, "4 healthy")


def test_the_documented_order_stops_first(town: Town) -> None:
    """Stop, import, start, as the guide has it; the plan says what that costs."""
    root = town.ask("rita", "rotate web-02 --order documented")
    assert "documented order" in root.content.casefold()
    town.press("ada", root, "Approve")
    town.end(root)
    town.assert_good("web-02")
    kinds = [e.kind for e in town.world.effects if e.host == "web-02"]
    assert kinds.index("stop") < kinds.index("make")


def test_a_sha1_certificate_is_replaced_by_a_good_one(town: Town) -> None:
    """The plan says that the old one is signed with SHA-1."""
    root = town.ask("rita", "rotate legacy-01")
    assert "SHA-1" in root.content
    town.press("ada", root, "Approve")
    town.end(root)
    town.assert_good("legacy-01")


def test_what_cannot_be_seen_or_proven_is_refused_with_the_reason(town: Town) -> None:
    """The unreachable one, and the one whose record names another thumbprint: nothing to approve."""
    answer = town.ask("rita", "rotate lost-01 moved-01")
    assert "Approve" not in answer.buttons
    assert "lost-01" in answer.content
    assert "Octopus records" in answer.content

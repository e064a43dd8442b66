"""The breaker: a wrong password costs one try, and one host's own fault does not stop a fleet."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bot.clock import SystemClock
from bot.runs.database import Database
from bot.runs.refusals import SharedBoard
from bot.windows.breaker import Breaker
from bot.windows.errors import RemoteError, RemoteErrorKind
from bot.windows.transport import Endpoint


def at(host: str, transport: str = "ntlm") -> Endpoint:
    """Return an endpoint of one account on some host."""
    return Endpoint(url=f"https://{host}:5986/wsman", transport=transport, username="CORP\\svc")


def try_on(breaker: Breaker, host: str, *, accepts: bool, password: str = "old") -> None:
    """Log in on a host that accepts or refuses."""
    with breaker.login(at(host), password) as login:
        (login.accepted if accepts else login.refused)()


def test_the_first_refusal_stops_all_hosts():
    """However many wait: one login was tried, and the sentence says at which host and what to do."""
    breaker, tries, refused = Breaker(), [], []
    begun = threading.Barrier(16)

    def visit(number: int) -> None:
        begun.wait(10)
        try:
            with breaker.login(at(f"web-{number}"), "wrong") as login:
                tries.append(number)
                login.refused()
        except RemoteError as error:
            refused.append((error.kind, str(error)))

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(visit, range(16)))
    assert len(tries) == 1
    assert len(refused) == 15
    assert {kind for kind, _ in refused} == {RemoteErrorKind.AUTHENTICATION}
    assert all(f"web-{tries[0]} refused" in text and "would lock" in text for _, text in refused)
    assert f"web-{tries[0]}" in breaker.problem(at("web-99"))


def test_a_new_command_is_worth_one_try_and_a_changed_password_begins_anew():
    """Half open by people, closed by the secret; nothing else lets it try."""
    breaker = Breaker()
    try_on(breaker, "web-1", accepts=False)
    with pytest.raises(RemoteError, match="not asked"):
        try_on(breaker, "web-2", accepts=True)
    breaker.ask_again()
    assert breaker.problem(at("web-2")) == ""
    try_on(breaker, "web-2", accepts=False)
    with pytest.raises(RemoteError, match="not asked"):
        try_on(breaker, "web-3", accepts=True)
    try_on(breaker, "web-3", accepts=True, password="new")
    try_on(breaker, "web-1", accepts=True, password="new")


def test_one_host_that_refuses_what_others_took_stops_only_itself():
    """It may have left its domain. A second refusal in a row is the password's."""
    breaker = Breaker()
    try_on(breaker, "web-1", accepts=True)
    try_on(breaker, "odd", accepts=False)
    with pytest.raises(RemoteError, match="a moment ago"):
        try_on(breaker, "odd", accepts=True)
    try_on(breaker, "web-2", accepts=True)
    try_on(breaker, "strange", accepts=False)
    assert breaker.problem(at("web-3")) == ""
    try_on(breaker, "web-3", accepts=False)
    with pytest.raises(RemoteError, match="not asked"):
        try_on(breaker, "web-4", accepts=True)


def test_a_host_that_never_answers_holds_the_others_up_for_a_moment_only():
    """The turn of the first passes on, whether it ended without an answer or is still at it."""
    breaker = Breaker(turn=0.05)
    with breaker.login(at("slow"), "right"):
        try_on(breaker, "web-1", accepts=True)
    breaker = Breaker(turn=30)
    with breaker.login(at("dead"), "right"):
        pass
    try_on(breaker, "web-1", accepts=True)


def test_accounts_are_apart_and_tickets_lock_nothing():
    """Another account logs in all the same; kerberos and certificates are never stopped."""
    breaker = Breaker()
    try_on(breaker, "web-1", accepts=False)
    other = Endpoint(url="https://web-2:5986/wsman", transport="ntlm", username="DMZ\\svc")
    with breaker.login(other, "old") as login:
        login.accepted()
    for _ in range(3):
        with breaker.login(at("web-1", "kerberos"), None) as login:
            login.refused()
    assert breaker.problem(at("web-1", "kerberos")) == ""


def test_what_one_bot_finds_out_stops_the_others(tmp_path: Path) -> None:
    """They share a database: a refusal counts for all, and so does leave to try again by a person or a new password."""
    with Database(f"sqlite:///{tmp_path / 'shared.sqlite'}") as database:
        one, two = (Breaker(SharedBoard(database.engine, SystemClock())) for _ in range(2))
        try_on(two, "web-0", accepts=True)
        try_on(one, "web-1", accepts=False)
        assert "web-1 refused" in two.problem(at("web-9"))
        with pytest.raises(RemoteError, match="web-1 refused the login"):
            try_on(two, "web-2", accepts=True)
        one.ask_again()
        assert two.problem(at("web-9")) == ""
        try_on(two, "web-3", accepts=False)
        assert "web-3 refused" in one.problem(at("web-9")), "what it had proven before counts no more"
        with pytest.raises(RemoteError, match="web-3 refused the login"):
            try_on(one, "web-4", accepts=True)
        try_on(two, "web-5", accepts=True, password="new")
        try_on(one, "web-6", accepts=True, password="new")
        assert one.problem(at("web-9")) == ""


def test_while_the_database_is_away_a_bot_goes_by_what_it_knows_itself(tmp_path: Path) -> None:
    """The account does not lock because Postgres restarts."""
    with Database(f"postgresql://octocert@/octocert?host={tmp_path}", beside=True) as database:
        breaker = Breaker(SharedBoard(database.engine, SystemClock()))
        try_on(breaker, "web-1", accepts=False)
        with pytest.raises(RemoteError, match="web-1 refused the login"):
            try_on(breaker, "web-2", accepts=True)

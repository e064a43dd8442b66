"""The doctor's look at Windows hosts: from the name to the rights, in the order in which a visit needs them.

A login that one host refuses is not tried on another: accounts lock.
"""

import socket
import ssl
from collections.abc import Sequence
from urllib.parse import urlsplit

from bot.clock import Clock
from bot.domain import names
from bot.domain.facts import EstateIndex, HostFacts
from bot.domain.names import TargetGroup
from bot.operating.examination import Examination, FailedCheckError, Good
from bot.runs.directory import Directory, Reach
from bot.runs.inspector import find_instance
from bot.settings import Settings
from bot.windows.errors import RemoteError, RemoteErrorKind
from bot.windows.hands import Hands
from bot.windows.transport import Endpoint, Transport
from bot.windows.visit import Visits

HOSTS = "hosts"
CONNECT_SECONDS = 5.0
POWERSHELL, OLDEST = (5, 1), (4, 0)
"""The PowerShell that the scripts are written for, and the oldest whose language holds all that they use: that of
Windows Server 2012 R2."""
SKEW_SECONDS = 300
"""How far a host's clock may be off: Kerberos takes no more, and a new certificate may not be valid yet there."""
HINT_SECONDS = 30
"""From when on a clock is worth a word; less is within what a visit can tell."""


def examine(
    found: Examination,
    settings: Settings,
    clock: Clock,
    index: EstateIndex | None,
    *,
    hosts: Sequence[str],
    sample: int,
) -> None:
    """Visit the hosts of these targets, or of a sample; nothing is changed there."""
    if index is None:
        found.skip(HOSTS, "“octopus: Tentacles” is not in order")
        return
    directory = Directory(settings)

    def choose() -> Good:
        chosen = list(names.match(hosts, index)) if hosts else _sample(index, settings, directory, sample)
        seen = len({g.name for g in chosen})
        return Good(f"{seen} of {len(names.targets(index))} targets are visited: {_listed(chosen)}.", chosen)

    if not found.check(HOSTS, choose):
        return
    hands = Hands(Visits(Transport(clock)), clock)
    refused: dict[Endpoint, str] = {}
    for group in found.value(HOSTS):
        _Host(found, settings, hands, directory.reach(group.records[0]), group, refused).examine()


def _sample(index: EstateIndex, settings: Settings, directory: Directory, count: int) -> list[TargetGroup]:
    """Return some targets on different hosts, one for each kind of login and [[hosts]] entry first."""
    first: dict[object, TargetGroup] = {}
    others: list[TargetGroup] = []
    addresses: set[str] = set()
    for group in names.targets(index):
        record = group.records[0]
        address = directory.reach(record).address
        if address in addresses:
            continue
        addresses.add(address)
        access = settings.access_for(record.name)
        kind = (access.scheme, access.port, repr(access.login), record.style)
        if kind in first:
            others.append(group)
        else:
            first[kind] = group
    return [*first.values(), *others][:count]


def _listed(groups: Sequence[TargetGroup]) -> str:
    shown = ", ".join(g.name for g in groups[:5])
    return shown if len(groups) <= 5 else f"{shown} and {len(groups) - 5} more"


class _Host:
    """The checks of one host."""

    def __init__(
        self,
        found: Examination,
        settings: Settings,
        hands: Hands,
        reach: Reach,
        group: TargetGroup,
        refused: dict[Endpoint, str],
    ) -> None:
        self._found = found
        self._settings = settings
        self._hands = hands
        self._reach = reach
        self._group = group
        self._refused = refused
        parts = urlsplit(reach.endpoint.url)
        self._host, self._port = parts.hostname or reach.address, parts.port or 5986

    def examine(self) -> None:
        """Look, from the outside inwards."""
        found, endpoint = self._found, self._reach.endpoint
        name, port, tls, login, powershell, rights, tentacle, time = (
            f"host {self._group.name}: {what}"
            for what in ("name", "port", "TLS", "login", "PowerShell", "rights", "Tentacle", "clock")
        )
        found.check(name, self._name)
        found.check(port, self._connect, needs=[name])
        if endpoint.is_tls:
            found.check(tls, self._tls, needs=[port])
        inside = tls if endpoint.is_tls else port
        earlier = self._refused.get(_login(endpoint))
        if earlier and found.has(inside):
            found.skip(login, f"{earlier} refused the same login, which is not tried again so that it does not lock")
        else:
            secret = next((n for n in self._secrets() if not found.has(n)), None)
            found.check(login, self._visit, needs=[*([secret] if secret else []), inside])
        found.check(powershell, lambda: _powershell(found.value(login)), needs=[login])
        found.check(rights, lambda: _rights(found.value(powershell)), needs=[powershell])
        found.check(tentacle, lambda: self._tentacle(found.value(powershell)), needs=[powershell])
        found.check(time, lambda: _clock(found.value(powershell)), needs=[powershell])

    def _secrets(self) -> list[str]:
        """Return the checks of the secrets that a login here needs."""
        entry = self._settings.host_for(self._group.records[0].name)
        table = f"credentials.{entry.credential}" if entry and entry.credential else "winrm"
        wanted = {f"[{table}] password"}
        return [f"secret: {setting}" for setting, _ in self._settings.references() if setting in wanted]

    def _name(self) -> Good:
        try:
            found = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise FailedCheckError(
                f"The name {self._host} does not resolve ({error.strerror or error}).",
                "Correct it in Octopus or in DNS, or give the host an address in [[hosts]].",
            ) from None
        return Good(f"{self._host} is {found[0][4][0]}.")

    def _connect(self) -> Good:
        try:
            socket.create_connection((self._host, self._port), timeout=CONNECT_SECONDS).close()
        except OSError as error:
            if isinstance(error, ConnectionRefusedError):
                what = "refuses connections"
            else:
                what = (
                    f"does not answer within {CONNECT_SECONDS:g} s" if isinstance(error, TimeoutError) else str(error)
                )
            raise FailedCheckError(
                f"{self._host} port {self._port}: {what}.",
                "See that the host is up, that a WinRM listener is there (winrm enumerate winrm/config/listener) and "
                "that no firewall is between.",
            ) from None
        return Good(f"{self._host} takes connections on port {self._port}.")

    def _tls(self) -> Good:
        ca_file = self._reach.endpoint.ca_file
        try:
            context = ssl.create_default_context(cafile=str(ca_file) if ca_file else None)
            with (
                socket.create_connection((self._host, self._port), timeout=CONNECT_SECONDS) as connection,
                context.wrap_socket(connection, server_hostname=self._host) as channel,
            ):
                version = channel.version()
        except ssl.SSLCertVerificationError as error:
            advice = "Name the CA that issued it as ca_file. There is no switch that ignores this."
            if "match" in error.verify_message or "valid for" in error.verify_message:
                advice = "Reach the host by a name that stands in it (address in [[hosts]]), or have one issued for it."
            elif "expired" in error.verify_message:
                advice = "Renew it on the host."
            raise FailedCheckError(
                f"The certificate of the WinRM listener is not accepted: {error.verify_message}.", advice
            ) from None
        except OSError as error:
            raise FailedCheckError(
                f"{self._host} port {self._port} does not speak TLS ({getattr(error, 'reason', None) or error}).",
                "See that the listener is HTTPS, or set scheme and port for this host.",
            ) from None
        return Good(f"{version}, and its certificate is trusted.")

    def _visit(self) -> Good:
        """Return what the host told, or what its script complained of: the login is in order then, too."""
        deadlines, endpoint = self._settings.deadlines, self._reach.endpoint
        how = f"{endpoint.transport} as {endpoint.username or 'the certificate'}."
        try:
            facts = self._hands.inspect(endpoint, loopback_seconds=deadlines.loopback, deadline=deadlines.inspect_host)
        except RemoteError as error:
            if error.kind is RemoteErrorKind.AUTHENTICATION:
                self._refused[_login(endpoint)] = self._group.name
            if error.kind is not RemoteErrorKind.SCRIPT:
                raise
            return Good(how, error)
        return Good(how, facts)

    def _tentacle(self, facts: HostFacts) -> Good:
        found, problem = find_instance(self._group.records[0], facts, self._reach.instance)
        if found is None:
            raise FailedCheckError(
                f"The Tentacle of {self._group.name} is not on this host: {problem}.",
                "Give the target's real host as address in [[hosts]], or correct its record in Octopus.",
            )
        if found.error:
            raise FailedCheckError(
                f"The instance {found.name} cannot be read: {found.error}.", "See to it on the host, then ask again."
            )
        what = f"instance {found.name}, {found.style.value}, {found.state.value}"
        return Good(f"Tentacle {facts.tentacle_version}, {what}.", found)


def _login(endpoint: Endpoint) -> Endpoint:
    """Return what an account is known by, wherever it logs in."""
    return Endpoint(
        url="", transport=endpoint.transport, username=endpoint.username.casefold(), certificate=endpoint.certificate
    )


def _rights(facts: HostFacts) -> Good:
    if not facts.elevated:
        raise FailedCheckError(
            f"The account is no administrator of {facts.computer}: it can neither stop the service nor import.",
            "Make it one of the host's Administrators; a local account also needs LocalAccountTokenFilterPolicy = 1.",
        )
    return Good("The account is an administrator.")


def _powershell(facts: HostFacts | RemoteError) -> Good:
    if isinstance(facts, RemoteError):
        raise FailedCheckError(
            str(facts), "Let Windows PowerShell 5.1 run in FullLanguage for the bot's account, and allow its script."
        )
    parts = facts.powershell.split(".")
    version = tuple(int(p) for p in parts[:2] if p.isdigit())
    if version < OLDEST:
        raise FailedCheckError(
            f"PowerShell {facts.powershell} is too old: the scripts need 4.0.",
            "Install Windows Management Framework 5.1 on the host.",
        )
    if facts.language_mode != "FullLanguage":
        raise FailedCheckError(
            f"PowerShell runs in {facts.language_mode}, in which the scripts cannot work.",
            "Allow the scripts in AppLocker or WDAC; the README names the hash of the bootstrap.",
        )
    hint = "It will do. Windows Management Framework 5.1 is better: the scripts are tried in its language."
    return Good(f"{facts.powershell}, {facts.language_mode}.", facts, advice=hint if version < POWERSHELL else "")


def _clock(facts: HostFacts) -> Good:
    skew = facts.clock_skew_seconds
    if abs(skew) > SKEW_SECONDS:
        raise FailedCheckError(
            f"The clock of {facts.computer} is {abs(skew):.0f} s {'ahead' if skew > 0 else 'behind'}.",
            "Have it set by a time server (w32tm /resync).",
        )
    hint = "Have it set by a time server (w32tm /resync)." if abs(skew) > HINT_SECONDS else ""
    return Good(f"Within {max(1, round(abs(skew)))} s of ours.", advice=hint)

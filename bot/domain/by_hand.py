"""What a person must do, because no WinRM of ours reaches a machine: which ones, why, and by which command. Pure."""

import re

from bot.domain import dangers
from bot.domain.facts import Instance, OtherMachine, Style, TargetFacts, Trust
from bot.domain.plan import ByHand, Hands
from bot.domain.thumbprint import Thumbprint

OLDEST_FOLLOWER = (3, 24, 0)
"""Since when Tentacle has update-trust (Octopus's release notes, 2018-12)."""
_LINUX = re.compile(r"linux|ubuntu|debian|centos|red hat|rhel|suse|fedora|alpine|oracle", re.IGNORECASE)
_WEB_SOCKET = "wss://"
_PINS_HTTPS = "it polls over WebSocket and goes by the web server's certificate, not by this one"


def by_hand_of(facts: TargetFacts, old: Thumbprint, new: Thumbprint | None) -> ByHand | None:
    """Return why a person must make this Tentacle trust the new certificate; None where we can."""
    first = facts.records[0]
    if _is_web_socket(facts):
        return ByHand(name=facts.name, hands=Hands.NONE, space=first.space, reason=_PINS_HTTPS, url=first.url)
    why = dangers.unseen(facts) or dangers.unfit(facts)
    if why is None and facts.instance:
        why = _unfit_trust(facts, facts.instance, old, new)
    if why is None:
        return None
    linux = facts.host is None and bool(first.os and _LINUX.search(first.os))
    hands = {
        (Style.LISTENING, False): Hands.LISTENING,
        (Style.LISTENING, True): Hands.LINUX_LISTENING,
        (Style.POLLING, False): Hands.POLLING,
        (Style.POLLING, True): Hands.LINUX_POLLING,
    }[first.style, linux]
    return ByHand(
        name=facts.name,
        hands=hands,
        space=first.space,
        reason=why,
        instance=facts.instance.name if facts.instance else "Tentacle",
        uri=first.uri,
        url=first.url,
    )


def _is_web_socket(facts: TargetFacts) -> bool:
    """Tell whether a Tentacle polls over WebSocket: by the addresses that it polls, where its host was seen.

    Octopus's record does not tell: its Uri is a subscription like any other (that it never begins with `wss://` is
    UNVERIFIED). One whose host cannot be seen is taken for an ordinary one; the command for those changes nothing here.
    """
    places = [t.address or "" for t in own_entries(facts)] or [r.uri for r in facts.records]
    return all(p.lower().startswith(_WEB_SOCKET) for p in places)


def _unfit_trust(facts: TargetFacts, instance: Instance, old: Thumbprint, new: Thumbprint | None) -> str | None:
    """Return why its list of trusted Servers must not be changed by us, as a phrase."""
    if facts.style is Style.LISTENING:
        return None
    ours = own_entries(facts)
    addresses = {t.address for t in ours}
    foreign = [t for t in instance.trusted if t.thumbprint == old and t.address not in addresses]
    if any(t.style is Style.POLLING for t in foreign):
        where = ", ".join(t.address or "?" for t in foreign)
        return (
            f"it also polls another Server that has the same certificate ({where}), a restored copy perhaps, and "
            "update-trust would change that entry, too"
        )
    odd = [t for t in ours if t.thumbprint not in {old, new}]
    if odd:
        return f"its registration expects {odd[0].shown} of the Server, not {old}"
    version = facts.host.tentacle_version if facts.host else None
    if version_of(version) < OLDEST_FOLLOWER:
        return f"its version {version} has no update-trust, which exists since 3.24.0"
    return None


def own_entries(facts: TargetFacts) -> tuple[Trust, ...]:
    """Return the entries of a polling Tentacle's list by which it polls this Server: those with our subscription."""
    if facts.instance is None:
        return ()
    wanted = {_subscription(r.uri) for r in facts.records}
    return tuple(t for t in facts.instance.trusted if t.subscription and _subscription(t.subscription) in wanted)


def _subscription(uri: str) -> str:
    return uri.removeprefix("poll://").rstrip("/").casefold()


def version_of(text: str | None) -> tuple[int, ...]:
    """Return a program's version for comparison; one that cannot be read is taken for a new one."""
    found = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", text or "")
    return tuple(int(part or 0) for part in found.groups()) if found and found[1] != "0" else (9999,)


def other_by_hand(machine: OtherMachine) -> ByHand:
    """Return what a person must do about a machine that is no Tentacle of ours."""
    kubernetes = machine.style.startswith("Kubernetes") and "Tentacle" in machine.style
    return ByHand(
        name=machine.name,
        hands=Hands.KUBERNETES if kubernetes else Hands.NONE,
        space=machine.space,
        reason="no WinRM reaches it" if kubernetes else f"{machine.style} goes by no certificate of this kind",
        url=machine.url,
    )


def command_for(facts: TargetFacts, old: str, new: str) -> str:
    """Return the exact command by which a person makes a Tentacle of ours trust the new certificate."""
    hands = Hands.LISTENING if facts.style is Style.LISTENING else Hands.POLLING
    instance = facts.instance.name if facts.instance else "Tentacle"
    return command_of(ByHand(name=facts.name, hands=hands, space="", reason="", instance=instance), old, new)


def command_of(hand: ByHand, old: str, new: str) -> str:
    """Return the exact command that a person must run at a machine; empty where nothing is to be done.

    Source: Octopus's docs of Tentacle's command line; for Kubernetes agents the pod is restarted afterwards.
    """
    program = '& "C:\\Program Files\\Octopus Deploy\\Tentacle\\Tentacle.exe"'
    linux = "sudo /opt/octopus/tentacle/Tentacle"
    instance = f'--instance="{hand.instance}"'
    change = {
        Hands.LISTENING: f"{program} configure {instance} --trust={new}",
        Hands.POLLING: f"{program} update-trust {instance} --oldThumbprint={old} --newThumbprint={new}",
        Hands.LINUX_LISTENING: f"{linux} configure {instance} --trust={new}",
        Hands.LINUX_POLLING: f"{linux} update-trust {instance} --oldThumbprint={old} --newThumbprint={new}",
    }
    if hand.hands is Hands.KUBERNETES:
        return (
            f"kubectl exec -n NAMESPACE POD -- tentacle update-trust --oldThumbprint={old} --newThumbprint={new} && "
            "kubectl delete pod -n NAMESPACE POD"
        )
    if hand.hands is Hands.NONE:
        return ""
    restart = linux if hand.hands in {Hands.LINUX_LISTENING, Hands.LINUX_POLLING} else program
    return f"{change[hand.hands]}; {restart} service {instance} --restart"

"""The twin of `trust.ps1`: the part of `apply.ps1` about trusted Octopus Servers, function for function the same."""

from typing import Any
from urllib.parse import urlsplit

from bot.sandbox.windows.twin_common import JsonObject, ScriptError, complaint, same, shown, trusted_of
from bot.sandbox.windows.twin_visit import Visit

PHASES = {
    "trust": ("trusting", "trusted"),
    "retrust": ("retrusting", "retrusted"),
    "untrust": ("untrusting", "untrusted"),
}
"""The actions that change the list, and what the journal says of each before and afterwards."""
_LISTENING = 1
_PORTS = {"https": 443, "wss": 443, "http": 80, "ws": 80}


class Trusting(Visit):
    """A visit that can change and see whom a Tentacle trusts."""

    def trust_list(self) -> list[JsonObject]:
        """Return the list in the file."""
        return trusted_of(self.read_configuration(self.p["config"]))

    # ---- Each of these tells whether its work is done already, or refuses it

    def _is_trusted(self, entries: list[JsonObject]) -> bool:
        return any(_listens(e) and same(e["thumbprint"], self.p["trust_new"]) for e in entries)

    def _is_retrusted(self, entries: list[JsonObject]) -> bool:
        p = self.p
        ours = [address.lower() for address in p["server_addresses"]]
        old = [e for e in entries if same(e["thumbprint"], p["trust_old"])]
        new = [e for e in entries if same(e["thumbprint"], p["trust_new"])]
        for entry in old:
            if entry["address"] and _host_and_port(entry["address"]) not in ours:
                raise self.deny(
                    "other-server",
                    f"{p['instance']} also trusts {p['trust_old']} at {entry['address']}, which is not an address of "
                    "this Octopus Server: update-trust would change that registration, too",
                )
        follows = any(e["address"] and _host_and_port(e["address"]) in ours for e in new)
        if follows and not any(e["address"] for e in old):
            return True
        for entry in old:
            if any(_place(e) == _place(entry) for e in new) and not self._is_passing(entries, entry):
                raise self.deny(
                    "duplicate",
                    f"{p['instance']} trusts both {p['trust_old']} and {p['trust_new']} for "
                    f"{entry['address'] or 'incoming connections'}: update-trust would make a "
                    f"second entry of {p['trust_new']}, after which the program fails; remove one of the two first",
                )
        if any(e["address"] for e in old):
            return False
        raise self.deny(
            "untrusted",
            f"{p['instance']} polls no Octopus Server of this address whose certificate is {p['trust_old']} "
            f"or {p['trust_new']}",
        )

    def _is_passing(self, entries: list[JsonObject], entry: JsonObject) -> bool:
        new = [e for e in entries if same(e["thumbprint"], self.p["trust_new"])]
        return _listens(entry) and bool(new) and all(_listens(e) for e in new)

    def _is_untrusted(self, entries: list[JsonObject]) -> bool:
        p = self.p
        others = [e for e in entries if e["thumbprint"] != p["trust_old"]]
        if not self._is_trusted(others):
            raise self.deny(
                "untrusted",
                f"{p['instance']} does not trust {p['trust_new']}: without {p['trust_old']} it would let nobody in",
            )
        old = [e for e in entries if e["thumbprint"] == p["trust_old"]]
        if any(not _listens(e) for e in old):
            raise self.deny(
                "polling",
                f"{p['instance']} polls an Octopus Server by the entry {p['trust_old']}: "
                "to remove it would cost its registration",
            )
        return not old

    def is_trust_done(self, action: str) -> bool:
        """Look at the list, and refuse what would cost a registration or leave nobody trusted."""
        looks = {"trust": self._is_trusted, "retrust": self._is_retrusted, "untrust": self._is_untrusted}
        return looks[action](self.trust_list())

    # ---- The actions

    def _arguments(self, action: str) -> list[str]:
        p = self.p
        instance = f"--instance={p['instance']}"
        if action == "retrust":
            old, new = f"--oldThumbprint={p['trust_old']}", f"--newThumbprint={p['trust_new']}"
            return ["update-trust", instance, old, new]
        change = f"--trust={p['trust_new']}" if action == "trust" else f"--remove-trust={p['trust_old']}"
        return ["configure", instance, change]

    def _wanted(self, action: str, entries: list[JsonObject]) -> list[str]:
        p = self.p
        wanted = []
        for entry in entries:
            text = entry["thumbprint"]
            if action == "untrust" and text == p["trust_old"]:
                continue
            if action == "retrust" and same(text, p["trust_old"]):
                text = p["trust_new"]
            if action == "trust" and same(text, p["trust_new"]) and not entry["address"]:
                continue
            wanted.append(_shown(text, entry))
        return wanted

    def _remove_passing(self, entries: list[JsonObject]) -> str | None:
        p = self.p
        old = [e for e in entries if same(e["thumbprint"], p["trust_old"]) and self._is_passing(entries, e)]
        if not old:
            return None
        for text in dict.fromkeys(e["thumbprint"] for e in entries if same(e["thumbprint"], p["trust_new"])):
            self.octopus("configure", f"--instance={p['instance']}", f"--remove-trust={text}")
        again: str = old[0]["thumbprint"]
        return again

    def change_trust(self, action: str) -> JsonObject:
        """Change the list, and see that it was changed."""
        p, (doing, done) = self.p, PHASES[action]
        if self.is_trust_done(action):
            if self.notes["phase"] == doing:
                self.save_written(done, self.notes["new"])
            return {"already": True, "changed": 0}
        entries = self.trust_list()
        wanted = self._wanted(action, entries)
        self.write_journal(doing)
        again = self._remove_passing(entries) if action == "retrust" else None
        arguments = self._arguments(action)
        result = self.octopus(*arguments)
        if again:
            self.octopus("configure", f"--instance={p['instance']}", f"--trust={again}")
        now = self.trust_list()
        kept = {_shown(e["thumbprint"], e).casefold() for e in now}
        missing = [w for w in wanted if w.casefold() not in kept]
        if action == "trust" and not self._is_trusted(now):
            missing.append(p["trust_new"])
        left = [
            e
            for e in now
            if (action == "retrust" and same(e["thumbprint"], p["trust_old"]) and not (again and _listens(e)))
            or (action == "untrust" and e["thumbprint"] == p["trust_old"])
        ]
        if missing or left:
            raise ScriptError(
                f"{arguments[0]} ended with exit code {result['code']}, and the list of trusted Octopus Servers is not "
                f"what it should be ({len(missing)} missing, {len(left)} left): {complaint(result)}"
            )
        self.save_written(done, self.notes["new"])
        return {"already": False, "changed": result["out"].count(" - changing to trust ")}

    def see_trusting(self) -> JsonObject:
        """See what the running process trusts; one that has just started says it late."""
        p, journal = self.p, self.notes
        begin = self.view.seconds()
        while True:
            facts = self.facts()
            seen = self.trusted_by_process = self.trusting(self.read_configuration(p["config"]), p["config"], facts)
            said = any(same(text, p["trust_new"]) for text in seen["thumbprints"] or ())
            if said or self.view.seconds() - begin > p["limits"]["loopback"]:
                break
            self.view.sleep(0.5)
        at_write = (journal["write_process"], journal["write_process_started"])
        if facts["process"] and (facts["process"], facts["process_started"]) == at_write and not said:
            seen["error"] = f"process {facts['process']} has run since before the list was written"
        return {"already": False, "error": seen["error"]}


def _listens(entry: JsonObject) -> bool:
    return bool(entry["style"] == _LISTENING and not entry["address"])


def _host_and_port(address: str) -> str:
    """Return `https://Octopus.example:10943/` as `octopus.example:10943`."""
    try:
        parts = urlsplit(address)
        port: Any = parts.port or _PORTS.get(parts.scheme, -1)
    except ValueError:
        return address.lower()
    return f"{parts.hostname}:{port}" if parts.scheme and parts.hostname else address.lower()


def _place(entry: JsonObject) -> str:
    """Return where the Server is polled; nothing for one that may connect."""
    return _host_and_port(entry["address"]) if entry["address"] else ""


def _shown(text: str | None, entry: JsonObject) -> str:
    """Return what must be the same again after a change."""
    return f"{shown(text)}|{_place(entry)}|{shown(entry['subscription'])}"

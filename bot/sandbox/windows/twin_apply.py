"""The second half of the twin of `apply.ps1`: the actions, and the visit that carries them out."""

from collections.abc import Callable

from bot.sandbox.windows.twin_common import (
    TRUSTED,
    JsonObject,
    ScriptError,
    complaint,
    from_base64,
    journal_path,
    same,
    select_journal,
    shown,
    thumbprint_of,
)
from bot.sandbox.windows.twin_server import Serving
from bot.sandbox.windows.twin_trust import PHASES

_CERTIFICATE, _THUMBPRINT = "Tentacle.Certificate", "Tentacle.CertificateThumbprint"
_SEQUENCE = 0x30
"""First byte of every DER file."""


TENTACLE_ACTIONS = {"backup", "import", "make", "restore", "trust", "retrust", "untrust", "trusting"}
SERVER_ACTIONS = {"export", "generate", "adopt", "revert"}
"""What can be done to one kind of instance and not to the other."""


class Apply(Serving):
    """One apply visit."""

    # ---- The actions. Each returns what its `end` line tells

    def _backup(self) -> JsonObject:
        p = self.p
        folder = self.backup_folder(p["run"])
        about = folder / "about.json"
        if about.is_file():
            return {"already": True}
        configured = self.configured()
        if not same(configured, p["expected"]):
            raise ScriptError(f"the copy of the configuration of run {p['run']} is gone")
        self.confirm_folder(self.work_folder())
        self.confirm_folder(folder)
        self.write_bytes(folder / "Tentacle.config", self.read_bytes(p["config"]))
        self.write_json(
            about,
            {
                "run": p["run"],
                "instance": p["instance"],
                "config": p["config"],
                "thumbprint": configured,
                "at": self.time(),
            },
        )
        self.write_journal("copied")
        return {"already": False}

    def _import(self) -> JsonObject:
        p = self.p
        if same(self.configured(), p["new"]) and not same(p["new"], self.notes["old"]):
            return {"already": True}
        self.confirm_no_other()
        data = from_base64(p["pfx"] or "")
        self.confirm_pfx(data)
        file = self.save_pfx(data)
        self.notes["new"] = p["new"]
        self.write_journal("importing")
        result = self.octopus("import-certificate", f"--instance={p['instance']}", f"--from-file={file}")
        self.clear_pfx()
        configured = self.configured()
        if not same(configured, p["new"]):
            raise ScriptError(
                f"import-certificate ended with exit code {result['code']}, and {shown(configured)} is configured: "
                f"{complaint(result)}"
            )
        self.save_written("imported", configured)
        return {"already": False}

    def _make(self) -> JsonObject:
        configured, notes = self.configured(), self.notes
        ours = configured and not same(configured, notes["old"])
        if ours and same(configured, notes["new"]):
            return {"already": True}
        if ours and notes["phase"] == "making":
            self.save_written("made", configured)
            return {"already": True}
        self.write_journal("making")
        result = self.octopus("new-certificate", f"--instance={self.p['instance']}")
        made = self.configured()
        if not made or same(made, configured):
            raise ScriptError(
                f"new-certificate ended with exit code {result['code']}, and the thumbprint did not change: "
                f"{complaint(result)}"
            )
        self.save_written("made", made)
        return {"already": False}

    def _stop(self) -> JsonObject:
        if self.was_restarted():
            return {"already": True}
        before = self.facts()
        if before["state"] == "Stopped":
            return {"already": True}
        self.stop_octopus(before)
        return {"already": False}

    def _start(self) -> JsonObject:
        now = self.facts()
        if self.process_at_write and now["process"] == self.process_at_write:
            self.stop_octopus(now)
            self.start_octopus(now)
        else:
            self.start_octopus({"process": None, "process_started": None})
        return {"already": False}

    def _restart(self) -> JsonObject:
        before = self.facts()
        if self.was_restarted():
            if self.notes["phase"] != "started":
                self.save_started(before)
            return {"already": True}
        if before["state"] != "Stopped":
            self.stop_octopus(before)
        self.start_octopus(before)
        return {"already": False}

    def _served(self) -> JsonObject:
        p = self.p
        if not p["port"]:
            return {"already": True}
        limit = p["limits"]["loopback"]
        begin = self.view.seconds()
        while True:
            self.served = self.look_at_served(p["port"], p["listen_ip"], min(limit, 10))
            if self.served["der"] or self.view.seconds() - begin > limit:
                return {"already": False}
            self.view.sleep(0.5)

    def _restore(self) -> JsonObject:
        p = self.p
        run = p["restore_run"] or p["run"]
        copy = self.backup_folder(run) / "Tentacle.config"
        if not copy.is_file():
            raise ScriptError(f"no copy of the configuration of run {run} is kept on this host")
        kept, current = self.read_configuration(copy), self.read_configuration(p["config"])
        wanted = thumbprint_of(kept)
        promised = self.notes["old"] if same(run, p["run"]) else p["new"]
        if not wanted or (promised and not same(wanted, promised)):
            raise ScriptError(f"the copy of run {run} holds {shown(wanted)}, not {shown(promised)}")
        keys = (_CERTIFICATE, _THUMBPRINT)
        if all(kept.get(key) == current.get(key) for key in keys):
            return {"already": True}
        is_untouched = same(self.hash_of(p["config"]), self.notes["hash"]) and kept.get(TRUSTED) == current.get(TRUSTED)
        self.write_journal("restoring")
        if is_untouched:
            self.write_whole(p["config"], self.read_bytes(copy))
        else:
            for key in keys:
                if not current.set(key, kept.get(key) or ""):
                    raise ScriptError(f"{p['config']} has no {key}")
            self.write_whole(p["config"], current.text.encode("utf-8-sig"))
        configured = self.configured()
        if not same(configured, wanted):
            raise ScriptError(f"after the restore {shown(configured)} is configured, not {wanted}")
        self.save_written("restored", self.notes["new"] if same(run, p["run"]) else wanted)
        return {"already": False, "whole": is_untouched}

    def _sweep(self) -> JsonObject:
        folder = self.backup_folder(self.p["run"])
        found = folder.is_dir()
        if found:
            self.remove_pfx_folder(folder)
        journal = self.read_journal(self.p["config"])
        if journal and same(journal.get("run"), self.p["run"]):
            self.delete(journal_path(self.p["config"]))
            found = True
        return {"already": not found}

    def _act(self, action: str) -> None:
        kind = self.p["kind"]
        if action in (TENTACLE_ACTIONS if kind == "server" else SERVER_ACTIONS):
            raise ScriptError(f"{action} is no action for a {kind}")
        self.life.send_line("begin", {"action": action})
        actions: dict[str, Callable[[], JsonObject]] = {
            "backup": self._backup,
            "import": self._import,
            "make": self._make,
            "stop": self._stop,
            "start": self._start,
            "restart": self._restart,
            "served": self._served,
            "trust": lambda: self.change_trust("trust"),
            "retrust": lambda: self.change_trust("retrust"),
            "untrust": lambda: self.change_trust("untrust"),
            "trusting": self.see_trusting,
            "export": self.export,
            "generate": self.generate,
            "adopt": self.adopt,
            "revert": self.revert,
            "restore": self._restore,
            "sweep": self._sweep,
        }
        if action not in actions:
            raise ScriptError(f"this script knows no action {action}")
        details = actions[action]()
        self.life.send_line("end", {"action": action} | details)

    # ---- The visit

    def _complete(self) -> None:
        """End the visit, however it went: the service first."""
        try:
            if self.stopped:
                self.start_octopus(self.stopped)
            elif self.journal and self.has_backstop and self.facts()["state"] == "Running":
                self.remove_backstop()
        except ScriptError as error:
            self.problem = error.message
        try:
            self.clear_pfx()
        finally:
            self.exit_mutex()

    def _applied(self) -> JsonObject:
        p, facts = self.p, self.facts()
        is_server = p["kind"] == "server"
        return {
            "configured": None if is_server else self.configured(),
            "served": self.served,
            "new": self.notes["new"],
            "state": facts["state"],
            "process": facts["process"],
            "process_started": facts["process_started"],
            "trusted": [] if is_server else self.trust_list(),
            "trusting": self.trusted_by_process["thumbprints"],
            "trusting_error": self.trusted_by_process["error"],
            "stored": self.stored(p["exe"], p["instance"])["thumbprint"] if is_server else None,
            "printed": self.printed,
            "journal": select_journal(self.read_journal(p["config"])),
        }

    def _visit(self) -> None:
        actions = self.p["actions"]
        self.enter_mutex()
        try:
            self.clear_leftovers()
            self.open_journal()
            if any(action != "sweep" for action in actions):
                self.confirm_expected()
                self.confirm_planned()
                if self.notes["phase"] == "begun":
                    self.write_journal("begun")
            if self.p["kind"] == "server":
                self.confirm_sources(actions)
            if change := next((a for a in actions if a in PHASES), None):
                self.is_trust_done(change)
            for action in actions:
                self._act(action)
        finally:
            self._complete()
        if self.problem:
            raise ScriptError(self.problem)
        self.life.send_line("applied", self._applied())

    def run(self) -> None:
        """Carry out the actions, and say what came of it."""
        try:
            self._visit()
        except ScriptError as error:
            if self.problem and not same(error.message, self.problem):
                raise ScriptError(f"{error.message}. And then: {self.problem}") from error
            raise

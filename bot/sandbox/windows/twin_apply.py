"""The second half of the twin of `apply.ps1`: the actions, and the visit that carries them out."""

import uuid
from collections.abc import Callable
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from bot.domain.thumbprint import Thumbprint
from bot.sandbox.windows import pfx
from bot.sandbox.windows.twin_common import (
    TRUSTED,
    JsonObject,
    ScriptError,
    from_base64,
    journal_path,
    safe_name,
    same,
    select_journal,
    shown,
    thumbprint_of,
)
from bot.sandbox.windows.twin_trust import PHASES, Trusting
from bot.sandbox.windows.twin_visit import complaint

_CERTIFICATE, _THUMBPRINT = "Tentacle.Certificate", "Tentacle.CertificateThumbprint"
_SEQUENCE = 0x30
"""First byte of every DER file."""


class Apply(Trusting):
    """One apply visit."""

    # ---- The actions. Each returns what its `end` line tells

    def _backup_folder(self, run: str) -> Path:
        return self.work_folder() / f"{run}-{safe_name(self.p['instance'])}"

    def _backup(self) -> JsonObject:
        p = self.p
        folder = self._backup_folder(p["run"])
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

    def _confirm_pfx(self, data: bytes) -> None:
        """See that this host can read the file, and that it holds what was planned."""
        try:
            certificate, has_key = _loaded(data)
        except (pfx.PfxError, ValueError, IndexError) as error:
            raise self.deny("pfx", f"this host cannot read the PFX: {_pfx_message(error, data)}") from error
        if not has_key:
            raise self.deny("pfx", "the PFX holds no private key that this host can read")
        if not same(str(certificate), self.p["new"]):
            raise self.deny("pfx", f"the PFX holds {certificate}, not {shown(self.p['new'])} as planned")

    def _import(self) -> JsonObject:
        p = self.p
        if same(self.configured(), p["new"]) and not same(p["new"], self.notes["old"]):
            return {"already": True}
        data = from_base64(p["pfx"] or "")
        self._confirm_pfx(data)
        self.confirm_folder(self.work_folder())
        folder = self.work_folder() / f"{self.pfx_prefix()}{uuid.uuid4().hex}"
        self.confirm_folder(folder)
        self.pfx_folder = folder
        file = folder / "certificate.pfx"
        self.write_bytes(file, data)
        self.write_journal("importing")
        result = self.tentacle("import-certificate", f"--instance={p['instance']}", f"--from-file={file}")
        self._clear_pfx()
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
        result = self.tentacle("new-certificate", f"--instance={self.p['instance']}")
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
        self.stop_tentacle(before)
        return {"already": False}

    def _start(self) -> JsonObject:
        now = self.facts()
        if self.process_at_write and now["process"] == self.process_at_write:
            self.stop_tentacle(now)
            self.start_tentacle(now)
        else:
            self.start_tentacle({"process": None, "process_started": None})
        return {"already": False}

    def _restart(self) -> JsonObject:
        before = self.facts()
        if self.was_restarted():
            if self.notes["phase"] != "started":
                self.save_started(before)
            return {"already": True}
        if before["state"] != "Stopped":
            self.stop_tentacle(before)
        self.start_tentacle(before)
        return {"already": False}

    def _served(self) -> JsonObject:
        p = self.p
        if not p["port"]:
            return {"already": True}
        limit = p["limits"]["loopback"]
        begin = self.view.seconds()
        while True:
            self.served = self.look_at_served(p["port"], p["listen_ip"], limit)
            if self.served["der"] or self.view.seconds() - begin > limit:
                return {"already": False}
            self.view.sleep(0.5)

    def _restore(self) -> JsonObject:
        p = self.p
        run = p["restore_run"] or p["run"]
        copy = self._backup_folder(run) / "Tentacle.config"
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
        folder = self._backup_folder(self.p["run"])
        found = folder.is_dir()
        if found:
            self.remove_pfx_folder(folder)
        journal = self.read_journal(self.p["config"])
        if journal and same(journal.get("run"), self.p["run"]):
            self.delete(journal_path(self.p["config"]))
            found = True
        return {"already": not found}

    def _act(self, action: str) -> None:
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
            "restore": self._restore,
            "sweep": self._sweep,
        }
        if action not in actions:
            raise ScriptError(f"this script knows no action {action}")
        details = actions[action]()
        self.life.send_line("end", {"action": action} | details)

    # ---- The visit

    def _clear_pfx(self) -> None:
        if self.pfx_folder:
            self.remove_pfx_folder(self.pfx_folder)
            self.pfx_folder = None

    def _complete(self) -> None:
        """End the visit, however it went: the service first."""
        try:
            if self.stopped:
                self.start_tentacle(self.stopped)
            elif self.journal and self.has_backstop and self.facts()["state"] == "Running":
                self.remove_backstop()
        except ScriptError as error:
            self.problem = error.message
        try:
            self._clear_pfx()
        finally:
            self.exit_mutex()

    def _applied(self) -> JsonObject:
        facts = self.facts()
        return {
            "configured": self.configured(),
            "served": self.served,
            "new": self.notes["new"],
            "state": facts["state"],
            "process": facts["process"],
            "process_started": facts["process_started"],
            "trusted": self.trust_list(),
            "trusting": self.trusted_by_process["thumbprints"],
            "trusting_error": self.trusted_by_process["error"],
            "journal": select_journal(self.read_journal(self.p["config"])),
        }

    def _visit(self) -> None:
        actions = self.p["actions"]
        self.enter_mutex()
        try:
            self.clear_leftovers()
            self.open_journal()
            if any(action != "sweep" for action in actions):
                self.confirm_expected()
                if self.notes["phase"] == "begun":
                    self.write_journal("begun")
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


def _loaded(data: bytes) -> tuple[Thumbprint, bool]:
    """Return the certificate that X509Certificate2 takes from some bytes, and whether it has its key."""
    try:
        entries = pfx.read(data, "")
    except pfx.NotPfx:
        certificate = x509.load_der_x509_certificate(data)
        return Thumbprint.of(certificate.public_bytes(Encoding.DER)), False
    chosen = next((e for e in entries if e.key is not None), entries[0])
    return Thumbprint.of(chosen.certificate.public_bytes(Encoding.DER)), chosen.key is not None


def _pfx_message(error: Exception, data: bytes) -> str:
    """Return how .NET words it."""
    if not data:
        return "Array may not be empty or null. (Parameter 'rawData')"
    if data[0] != _SEQUENCE:
        kind = ("Universal", "Application", "ContextSpecific", "Private")[data[0] >> 6]
        return (
            f"The provided data is tagged with '{kind}' class value '{data[0] & 0x1F}', "
            "but it should have been 'Universal' class value '16'."
        )
    if isinstance(error, pfx.WrongPassword):
        return "The certificate data cannot be read with the provided password, the password may be incorrect."
    return "ASN1 corrupted data."

"""The twin of `server.ps1`: the part of `apply.ps1` about the Octopus Server's certificate, function for function."""

import re
from pathlib import Path

from bot.sandbox.windows.twin_common import JsonObject, ScriptError, complaint, from_base64, same, shown
from bot.sandbox.windows.twin_pfx import read_pfx
from bot.sandbox.windows.twin_trust import Trusting

_PRINTED = re.compile(r"old thumbprint = ([0-9A-F]{40})[,\s]+new thumbprint = ([0-9A-F]{40})")


class Serving(Trusting):
    """A visit that can change the certificate of the Octopus Server."""

    def _kept_file(self, run: str, name: str) -> Path:
        return self.backup_folder(run) / f"{name}.pfx"

    def _confirm_kept(self, run: str, name: str, promised: str | None) -> str:
        """See that what is about to be imported is there, can be read, and is what was promised."""
        file = self._kept_file(run, name)
        if not file.is_file():
            raise self.deny("missing", f"the {name} certificate that run {run} kept is gone from this host")
        found = read_pfx(self.read_bytes(file))
        if found["error"]:
            raise self.deny("missing", f"the {name} certificate that run {run} kept is of no use: {found['error']}")
        if promised and not same(found["thumbprint"], promised):
            raise self.deny("missing", f"run {run} kept {found['thumbprint']}, not {promised} as planned")
        return str(found["thumbprint"])

    def _save_kept(self, name: str, command: str, reason: str) -> str:
        """Have the program write a PFX, and keep it under its name only once it was opened again."""
        p, folder = self.p, self.backup_folder(self.p["run"])
        self.confirm_folder(self.work_folder())
        self.confirm_folder(folder)
        fresh = folder / f"unproven-{name}.pfx"
        self.delete(fresh)
        result = self.octopus(command, f"--instance={p['instance']}", f"--export-pfx={fresh}")
        if not fresh.is_file():
            raise self.deny(
                reason, f"{command} ended with exit code {result['code']} and wrote no file: {complaint(result)}"
            )
        found = read_pfx(self.read_bytes(fresh))
        is_old = same(found["thumbprint"], p["expected"])
        if found["error"] or (name == "old") != is_old:
            self.delete(fresh)
            if found["error"]:
                raise self.deny(reason, f"{command} wrote a file that is of no use: {found['error']}")
            if is_old:
                raise self.deny(reason, f"{command} wrote the certificate that the Server has already, {p['expected']}")
            raise self.deny(
                reason, f"{command} wrote {found['thumbprint']}, not the Server's certificate {p['expected']}"
            )
        with self.changing(self._kept_file(p["run"], name)) as file:
            fresh.rename(file)
        return str(found["thumbprint"])

    def export(self) -> JsonObject:
        """Keep the Server's certificate, to put it back if need be."""
        p, file = self.p, self._kept_file(self.p["run"], "old")
        already = file.is_file()
        if already:
            found = read_pfx(self.read_bytes(file))
            if found["error"]:
                raise self.deny("export", f"the kept certificate of run {p['run']} is of no use: {found['error']}")
            thumbprint = found["thumbprint"]
        else:
            if not same(self._stored_now(), p["expected"]):
                raise ScriptError(f"the certificate that run {p['run']} kept is gone")
            thumbprint = self._save_kept("old", "export-certificate", "export")
        about = self.backup_folder(p["run"]) / "about.json"
        if not about.is_file():
            self.write_json(
                about,
                {
                    "run": p["run"],
                    "instance": p["instance"],
                    "config": p["config"],
                    "thumbprint": thumbprint,
                    "at": self.time(),
                },
            )
            if self.notes["phase"] == "begun":
                self.write_journal("exported")
        return {"already": already}

    def generate(self) -> JsonObject:
        """Make a new certificate and keep it; the Server does not know it until it is adopted."""
        p, notes = self.p, self.notes
        file = self._kept_file(p["run"], "new")
        already, phase = file.is_file(), notes["phase"]
        is_untouched = phase in {"begun", "exported"}
        if already:
            found = read_pfx(self.read_bytes(file))
            if found["error"]:
                raise self.deny("generate", f"the certificate that run {p['run']} made is of no use: {found['error']}")
            notes["new"] = found["thumbprint"]
        elif not is_untouched:
            raise self.deny("missing", f"the certificate {notes['new']} that run {p['run']} made is gone")
        else:
            notes["new"] = self._save_kept("new", "new-certificate", "generate")
        self.write_journal("generated" if is_untouched else phase)
        return {"already": already}

    def _stored_now(self) -> str:
        stored = self.stored(self.p["exe"], self.p["instance"])
        if stored["error"]:
            raise ScriptError(f"the certificate of the Octopus Server cannot be read: {stored['error']}")
        return str(stored["thumbprint"])

    def _import_server(self, file: Path, wanted: str, doing: str, done: str, new: str | None) -> JsonObject:
        self.write_journal(doing)
        result = self.octopus("import-certificate", f"--instance={self.p['instance']}", f"--from-file={file}")
        self.clear_pfx()
        stored = self._stored_now()
        if not same(stored, wanted):
            raise ScriptError(
                f"import-certificate ended with exit code {result['code']}, and the Server's certificate is {stored}: "
                f"{complaint(result)}"
            )
        if said := _PRINTED.search(result["out"]):
            self.printed = {"old": said[1], "new": said[2]}
        self.save_written(done, new)
        return {"already": False}

    def adopt(self) -> JsonObject:
        """Give the Server the planned certificate, or the one that this run made."""
        p, notes = self.p, self.notes
        wanted: str | None = p["new"] or notes["new"]
        if wanted and same(self._stored_now(), wanted):
            if notes["phase"] == "adopting":
                self.save_written("adopted", wanted)
            return {"already": True}
        if p["pfx"]:
            data = from_base64(p["pfx"])
            self.confirm_pfx(data)
            file = self.save_pfx(data)
        else:
            file = self._kept_file(p["run"], "new")
            wanted = self._confirm_kept(p["run"], "new", wanted)
        notes["new"] = wanted
        return self._import_server(file, shown(wanted), "adopting", "adopted", wanted)

    def _revert_source(self) -> tuple[str, str | None]:
        """Return whose copy is put back, and which certificate was promised to be in it."""
        p = self.p
        if p["restore_run"] and not same(p["restore_run"], p["run"]):
            return p["restore_run"], p["new"]
        return p["run"], self.notes["old"]

    def revert(self) -> JsonObject:
        """Put the kept certificate back."""
        run, promised = self._revert_source()
        old = self._confirm_kept(run, "old", promised)
        new = self.notes["new"] if same(run, self.p["run"]) else old
        if same(self._stored_now(), old):
            if self.notes["phase"] == "reverting":
                self.save_written("reverted", new)
            return {"already": True}
        return self._import_server(self._kept_file(run, "old"), old, "reverting", "reverted", new)

    def confirm_sources(self, actions: list[str]) -> None:
        """Refuse what must be refused before anything is stopped."""
        p = self.p
        if "revert" in actions:
            run, promised = self._revert_source()
            self._confirm_kept(run, "old", promised)
        is_news = not same(p["new"], p["expected"])
        is_begun = is_news and self.notes["phase"] in {"begun", "exported", "generated"}
        if "adopt" in actions and "generate" not in actions and not p["pfx"] and is_begun:
            self._confirm_kept(p["run"], "new", p["new"])

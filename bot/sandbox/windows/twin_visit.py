"""The first half of the twin of `apply.ps1`: files, journal, mutex, backstop and service, function for function."""

import hashlib
import json
import os
import re
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from bot.sandbox.windows.twin_common import (
    Common,
    Fields,
    JsonObject,
    Life,
    ScriptError,
    journal_path,
    number,
    safe_name,
    same,
    shown,
    thumbprint_of,
    trusted_of,
)
from bot.sandbox.windows.twin_mutex import AbandonedMutexError, Mutex, mutex_of
from bot.sandbox.windows.twin_pfx import read_pfx

_TASK = """\
<?xml version="1.0" encoding="UTF-16"?>
<Task version="1.2" xmlns="http://schemas.microsoft.com/windows/2004/02/mit/task">
  <RegistrationInfo>
    <Description>octocert: starts a service again if the visit that stopped it died. Removes itself.</Description>
  </RegistrationInfo>
  <Triggers>
    <TimeTrigger>
      <Repetition><Interval>PT1M</Interval><Duration>PT1H</Duration></Repetition>
      <StartBoundary>{first}</StartBoundary>
      <EndBoundary>{end}</EndBoundary>
    </TimeTrigger>
  </Triggers>
  <Principals>
    <Principal id="System"><UserId>S-1-5-18</UserId><RunLevel>HighestAvailable</RunLevel></Principal>
  </Principals>
  <Settings>
    <MultipleInstancesPolicy>IgnoreNew</MultipleInstancesPolicy>
    <DisallowStartIfOnBatteries>false</DisallowStartIfOnBatteries>
    <StopIfGoingOnBatteries>false</StopIfGoingOnBatteries>
    <StartWhenAvailable>true</StartWhenAvailable>
    <ExecutionTimeLimit>PT5M</ExecutionTimeLimit>
    <DeleteExpiredTaskAfter>PT0S</DeleteExpiredTaskAfter>
  </Settings>
  <Actions Context="System">
    <Exec><Command>{command}</Command><Arguments>{arguments}</Arguments></Exec>
  </Actions>
</Task>"""
_LOOK_SECONDS = 0.25
_MOST_CHARACTERS = 4000


class Visit(Common):
    """One apply visit: what its actions are made of."""

    def __init__(self, life: Life, p: JsonObject) -> None:
        super().__init__(life, p)
        self.mutex: Mutex | None = None
        self.journal: JsonObject | None = None
        self.stopped: JsonObject | None = None
        """The process that we asked to stop, until another one was seen to run."""
        self.has_backstop = False
        self.process_at_write: int | None = None
        """The process that ran when the configuration was written: it knows nothing of it."""
        self.pfx_folder: Path | None = None
        self.served: JsonObject | None = None
        self.printed: JsonObject | None = None
        """Old and new thumbprint, as the Server's program printed them."""
        self.trusted_by_process: JsonObject = {"thumbprints": None, "error": None}
        """What the running process said that it trusts."""
        self.problem: str | None = None

    @property
    def notes(self) -> JsonObject:
        """The journal, once it was opened."""
        assert self.journal is not None
        return self.journal

    def deny(self, reason: str, message: str) -> ScriptError:
        """Say `refused`, as long as nothing was changed; return what is to be raised."""
        if self.journal is None or self.journal["phase"] in {"begun", "copied", "exported", "generated"}:
            self.life.send_line("refused", {"reason": reason, "message": message})
        return ScriptError(message)

    # ---- Files

    def write_whole(self, path: Path | str, data: bytes) -> None:
        """Write a file so that readers see the old one or the new one."""
        with self.changing(f"{path}.new") as fresh, fresh.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        with self.changing(path) as target:
            Path(f"{path}.new").replace(target)

    def write_json(self, path: Path | str, value: Any) -> None:
        """Write a JSON file."""
        self.write_whole(path, json.dumps(value, indent=2, ensure_ascii=False).encode())

    def hash_of(self, path: Path | str) -> str:
        """Return the SHA-256 of a file."""
        return hashlib.sha256(self.read_bytes(path)).hexdigest()

    def confirm_folder(self, path: Path) -> None:
        """Make a folder for SYSTEM and Administrators, or see that it is one."""
        if not path.is_dir():
            with self.changing(path):
                self._view.protect(str(path))
        if not self.view.is_protected(str(path)):
            raise self.deny(
                "protection", f"the folder {path} cannot be kept to SYSTEM and Administrators: mend or remove it"
            )

    def remove_pfx_folder(self, path: Path) -> None:
        """Overwrite the files of a folder, and delete it."""
        for file in path.iterdir():
            if file.is_file():
                self.write_bytes(file, bytes(file.stat().st_size))
                self.delete(file)
        self.delete_folder(path)

    def key(self) -> str:
        """Return the instance in the names of folders, tasks and mutexes."""
        name = safe_name(self.p["instance"])
        return f"server+{name}" if self.p["kind"] == "server" else name

    def pfx_prefix(self) -> str:
        """Return how the names of this instance's PFX folders begin."""
        return f"pfx-{self.key()}--"

    def confirm_pfx(self, data: bytes) -> None:
        """See that this host can read the file, and that it holds what was planned."""
        found = read_pfx(data)
        if found["error"]:
            raise self.deny("pfx", found["error"])
        if not same(found["thumbprint"], self.p["new"]):
            raise self.deny("pfx", f"the PFX holds {found['thumbprint']}, not {shown(self.p['new'])} as planned")

    def save_pfx(self, data: bytes) -> Path:
        """Put a PFX where nobody else can read it, for as long as an import takes."""
        self.confirm_folder(self.work_folder())
        folder = self.work_folder() / f"{self.pfx_prefix()}{uuid.uuid4().hex}"
        self.confirm_folder(folder)
        self.pfx_folder = folder
        file = folder / "certificate.pfx"
        self.write_bytes(file, data)
        return file

    def clear_pfx(self) -> None:
        """Remove the PFX that lies on the disk for an import."""
        if self.pfx_folder:
            self.remove_pfx_folder(self.pfx_folder)
            self.pfx_folder = None

    def backup_folder(self, run: str) -> Path:
        """Return where a run keeps what it may have to put back."""
        return self.work_folder() / f"{run}-{self.key()}"

    def clear_leftovers(self) -> None:
        """Remove what dead visits left."""
        config = self.p["config"]
        for leftover in (f"{config}.new", f"{journal_path(config)}.new"):
            self.delete(leftover)
        root = self.work_folder()
        for path in sorted(root.iterdir()) if root.is_dir() else ():
            if path.is_dir() and path.name.startswith(self.pfx_prefix()):
                self.remove_pfx_folder(path)

    # ---- The journal

    def write_journal(self, phase: str) -> None:
        """Note how far this run came."""
        self.notes["phase"] = phase
        self.notes["at"] = self.time()
        self.write_json(journal_path(self.p["config"]), self.notes)

    def open_journal(self) -> None:
        """Go on with this run's journal, or begin one."""
        p = self.p
        found = self.read_journal(p["config"]) or Fields()
        journal: JsonObject = {
            "run": p["run"],
            "phase": "begun",
            "old": p["expected"],
            "new": p["new"],
            "at": None,
            "hash": None,
            "process": None,
            "process_started": None,
            "backstop": False,
            "write_process": None,
            "write_process_started": None,
        }
        if same(found.get("run"), p["run"]):
            journal = {key: found.get(key) for key in journal}
            self.has_backstop = bool(journal["backstop"])
        elif p["restore_run"] and same(found.get("run"), p["restore_run"]):
            journal["hash"] = found.get("hash")
        self.journal = journal

    def configured(self) -> str | None:
        """Return the configured thumbprint."""
        return thumbprint_of(self.read_configuration(self.p["config"]))

    def confirm_expected(self) -> None:
        """Look for the last time whether the plan still fits, or this run's own work is found."""
        p, journal = self.p, self.notes
        if p["kind"] == "server":
            stored = self.stored(p["exe"], p["instance"])
            if stored["error"]:
                if journal["phase"] != "begun":
                    return
                raise self.deny("stored", f"the certificate of the Octopus Server cannot be read: {stored['error']}")
            current = stored["thumbprint"]
            if "revert" in p["actions"] and same(current, p["new"]):
                return
        else:
            current = self.configured()
        if same(current, p["expected"]):
            return
        if journal["phase"] != "begun":
            if journal["new"] and same(current, journal["new"]):
                return
            writing = {"importing", "making", "restoring", "adopting", "reverting"}
            if same(current, journal["old"]) or journal["phase"] in writing:
                return
        raise self.deny(
            "stale",
            f"the certificate configured for {p['instance']} is {shown(current)}, not {p['expected']} as planned",
        )

    def confirm_planned(self) -> None:
        """Look whether all else that decided the plan is as it was, as long as nothing was done."""
        p = self.p
        if p["trusted"] is None or self.notes["phase"] != "begun":
            return
        facts = self.facts()
        if not same(facts["state"], "Running"):
            raise self.deny("stale", f"the service {p['service']} is {facts['state']}, not Running as planned")
        planned = _texts(p["trusted"])
        current = _texts(e["thumbprint"] for e in trusted_of(self.read_configuration(p["config"])))
        if current != planned:
            raise self.deny("stale", f"{p['instance']} trusts {current}, not {planned} as planned")
        children = self.children(facts["process"])
        if children:
            raise self.deny("at-work", f"the program {children[0]}")

    def confirm_no_other(self) -> None:
        """See that this run has not put another certificate there already: one whose visit was interrupted."""
        new = self.notes["new"]
        if new and same(self.configured(), new) and not same(new, self.notes["old"]) and not same(new, self.p["new"]):
            raise ScriptError(f"this run has put {new} there already, so {shown(self.p['new'])} is not imported")

    # ---- One visit at a time

    def enter_mutex(self) -> None:
        """Be alone with the instance; wait for another visit of the same run."""
        name = f"octocert-{self.key()}"
        self.mutex = mutex_of(self.host.world, self.view.mutex(name))
        if self._wait_mutex(0):
            return
        self.life.send_line("waiting", self.p["instance"])
        begin = self.view.seconds()
        while self.view.seconds() - begin < self.p["limits"]["visit"]:
            if self._wait_mutex(_LOOK_SECONDS):
                return
            journal = self.read_journal(self.p["config"]) or Fields()
            if self.view.seconds() - begin > 2 and not same(journal.get("run"), self.p["run"]):
                break
        self.mutex = None
        raise self.deny("busy", f"another visit is working on {self.p['instance']}")

    def _wait_mutex(self, seconds: float) -> bool:
        assert self.mutex is not None
        try:
            taken = self.mutex.wait(self.life, seconds, lambda: self.life.is_dead)
        except AbandonedMutexError:
            taken = True
        self.life.check()
        return taken

    def exit_mutex(self) -> None:
        """Let others in."""
        if self.mutex:
            with self.life.acting():
                self.mutex.release(self.life)
            self.mutex = None

    # ---- The backstop

    def _backstop_name(self) -> str:
        return f"octocert-backstop-{self.key()}"

    def _backstop_xml(self) -> str:
        limits = self.p["limits"]
        first = limits["stop"] + limits["program"] + limits["start"]
        return _TASK.format(
            first=_boundary(self.time(first)),
            end=_boundary(self.time(first + 61 * 60)),
            command=_escape(str(self.host.system32 / "sc.exe")),
            arguments=_escape(f'start "{self.p["service"]}"'),
        )

    def _register_backstop(self) -> None:
        self.confirm_folder(self.work_folder())
        name = self._backstop_name()
        file = self.work_folder() / f"{name}.xml"
        self.write_bytes(file, b"\xff\xfe" + self._backstop_xml().encode("utf-16-le"))
        try:
            made = self.run_schtasks("/Create", "/TN", name, "/XML", str(file), "/F")
        finally:
            self.delete(file)
        if self.run_schtasks("/Query", "/TN", name)["code"] != 0:
            raise self.deny(
                "backstop",
                f"the scheduled task that would start {self.p['service']} again cannot be registered: "
                f"{made['err'].strip()}",
            )
        self.has_backstop = True
        self.notes["backstop"] = True

    def remove_backstop(self) -> None:
        """Remove the task: the service runs, or was never asked to stop."""
        if self.has_backstop:
            self.run_schtasks("/Delete", "/TN", self._backstop_name(), "/F")
            self.has_backstop = False
            self.notes["backstop"] = False

    # ---- The service

    def facts(self) -> JsonObject:
        """Return what is known of the service."""
        return self.service_facts(self.p["service"])

    def stop_octopus(self, before: JsonObject) -> None:
        """Stop the service and wait until its process is gone; the backstop is there before."""
        service, limit = self.p["service"], self.p["limits"]["stop"]
        if before["state"] == "Missing":
            raise ScriptError(f"there is no service {service}")
        self._register_backstop()
        self._note_process(before)
        self.write_journal("stopping")
        self.life.send_line("stopping", service)
        self.stopped = before
        begin, was_asked = self.view.seconds(), False
        while True:
            now = self.facts()
            if now["state"] == "Stopped" or is_new_process(now, before):
                break
            if now["state"] == "Running" and not was_asked:
                was_asked = True
                self.control_service(service, "stop")
            if self.view.seconds() - begin > limit:
                raise ScriptError(
                    f"{service} did not stop within {number(limit)} s: process {shown(now['process'])} of "
                    f"{shown(now['account'])} is still there ({now['state']}). Nothing was killed; a scheduled task "
                    "starts the service as soon as it has stopped"
                )
            self.view.sleep(_LOOK_SECONDS)
        self.write_journal("stopped")
        self.life.send_line("stopped", service)

    def save_started(self, facts: JsonObject) -> None:
        """Note which process runs now; the backstop goes."""
        self._note_process(facts)
        self.remove_backstop()
        self.write_journal("started")

    def start_octopus(self, before: JsonObject) -> None:
        """Start the service and wait until it runs by another process than before."""
        service, limit = self.p["service"], self.p["limits"]["start"]
        begin, problem = self.view.seconds(), ""
        while True:
            now = self.facts()
            if is_new_process(now, before):
                break
            if self.view.seconds() - begin > limit:
                message = f"{service} does not run by a new process after {number(limit)} s ({now['state']}). {problem}"
                raise ScriptError(message.strip())
            if now["state"] == "Stopped":
                try:
                    self.control_service(service, "start")
                except ScriptError as error:
                    problem = error.message
            self.view.sleep(_LOOK_SECONDS)
        self.stopped = None
        self.save_started(now)
        self.life.send_line("started", service)

    def octopus(self, *arguments: str) -> JsonObject:
        """Run the program and say `program`."""
        result = self.run_program(self.p["exe"], list(arguments))
        out, err = _without_secrets(result["out"]), _without_secrets(result["err"])
        self.life.send_line("program", {"code": result["code"], "out": out, "err": err})
        return {"code": result["code"], "out": out, "err": err}

    def save_written(self, phase: str, new: str | None) -> None:
        """Note what the file is now, and which process still runs with what it was before."""
        facts = self.facts()
        self.process_at_write = facts["process"]
        self.notes["write_process"] = facts["process"]
        self.notes["write_process_started"] = facts["process_started"]
        self.notes["hash"] = self.hash_of(self.p["config"])
        self.notes["new"] = new
        self.write_journal(phase)

    def was_restarted(self) -> bool:
        """Return whether a visit of this run did it already."""
        before, now = self.notes, self.facts()
        if before["phase"] == "started":
            return bool(now["state"] == "Running" and _same_process(now, before))
        return before["phase"] in {"stopping", "stopped"} and is_new_process(now, before)

    def _note_process(self, facts: JsonObject) -> None:
        self.notes["process"] = facts["process"]
        self.notes["process_started"] = facts["process_started"]


def _without_secrets(text: str) -> str:
    """Remove what could be a key from what a program printed."""
    text = re.sub(r"-----BEGIN.*?(-----END[^\r\n]*|$)", "[removed]", text, flags=re.DOTALL)
    text = re.sub(r"[A-Za-z0-9+/=]{100,}", "[removed]", text)
    return f"...{text[-_MOST_CHARACTERS:]}" if len(text) > _MOST_CHARACTERS else text


def is_new_process(facts: JsonObject, before: JsonObject) -> bool:
    """Return whether it runs, by another process than before."""
    return bool(facts["state"] == "Running" and facts["process"] and not _same_process(facts, before))


def _same_process(one: JsonObject, other: JsonObject) -> bool:
    return bool(one["process"] == other["process"] and one["process_started"] == other["process_started"])


def _boundary(time: str) -> str:
    """Return a time in whole seconds."""
    return f"{time.rpartition('.')[0]}Z"


def _escape(text: str) -> str:
    """Escape as SecurityElement.Escape does."""
    return escape(text, {'"': "&quot;", "'": "&apos;"})


def _texts(texts: Iterable[str | None]) -> str:
    return ", ".join(sorted(text or "" for text in texts)) or "nobody"

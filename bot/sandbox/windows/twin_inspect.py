"""The twin of `inspect.ps1`: tells what a host knows of its Tentacles, function for function the same."""

from pathlib import Path

from bot.sandbox.windows.schedule import WATCHDOG
from bot.sandbox.windows.twin_common import (
    Common,
    Fields,
    JsonObject,
    ScriptError,
    from_json,
    same,
    select_journal,
    thumbprint_of,
    trusted_of,
)

_DEFAULT_PORT = 10933
_DEFAULT_SERVER_PORT = 10943


class Inspect(Common):
    """One inspect visit."""

    def run(self) -> None:
        """Send the line `facts`."""
        exe = self._find_program("Tentacle", "Tentacle", "Tentacle.exe")
        profile = self.host.profile
        self.life.send_line(
            "facts",
            {
                "computer": self.host.environment()["COMPUTERNAME"],
                "os": self.view.computer()["Caption"],
                "powershell": profile.powershell,
                "language": profile.language_mode,
                "clock": self.time(),
                "elevated": self.view.computer()["Elevated"],
                "exe": str(exe) if exe else None,
                "version": self.run_program(exe, ["version"])["out"].strip() if exe else None,
                "watchdog": self.run_schtasks("/Query", "/TN", WATCHDOG)["code"] == 0,
                "instances": [self._instance(f) for f in self._indexes("Tentacle")],
                "servers": self._servers(),
            },
        )

    def _find_program(self, key: str, folder_name: str, file: str) -> Path | None:
        installed = self.view.registry(rf"HKLM:\Software\Octopus\{key}") or {}
        usual = Path(self.host.environment()["ProgramFiles"], "Octopus Deploy", folder_name)
        for folder in (installed.get("InstallLocation"), usual):
            if folder and (exe := Path(folder, file)).is_file():
                return exe
        return None

    def _indexes(self, product: str) -> list[Path]:
        folder = self.host.program_data / "Octopus" / product / "Instances"
        return sorted(folder.glob("*.config"), key=lambda f: f.name.lower()) if folder.is_dir() else []

    def _servers(self) -> list[JsonObject]:
        if not self.p["server"]:
            return []
        exe = self._find_program("OctopusServer", "Octopus", "Octopus.Server.exe")
        version = self.run_program(exe, ["version"])["out"].strip() if exe else None
        return [self._server(f, exe, version) for f in self._indexes("OctopusServer")]

    def _server(self, index: Path, exe: Path | None, version: str | None) -> JsonObject:
        facts: JsonObject = {
            "name": index.stem,
            "config": None,
            "service": None,
            "error": None,
            "exe": str(exe) if exe else None,
            "version": version,
            "port": _DEFAULT_SERVER_PORT,
            "state": "Missing",
            "start_mode": None,
            "account": None,
            "process": None,
            "process_started": None,
            "stored": None,
            "stored_error": None,
            "served": None,
            "journal": None,
            "backup": None,
        }
        try:
            self._fill_server(facts, index, exe)
        except ScriptError as error:
            facts["error"] = error.message
        return facts

    def _fill_server(self, facts: JsonObject, index: Path, exe: Path | None) -> None:
        """Tell one thing after the other, until one fails."""
        entry = from_json(self.read_text(index))
        facts["name"] = entry["Name"]
        facts["config"] = config = entry["ConfigurationFilePath"]
        facts["service"] = (
            "OctopusDeploy" if same(entry["Name"], "OctopusServer") else f"OctopusDeploy: {entry['Name']}"
        )
        facts |= self.service_facts(facts["service"])
        port = self.read_configuration(config).get("Octopus.Communications.ServicesPort")
        if port:
            facts["port"] = _port(port)
        facts["journal"] = select_journal(self.read_journal(config))
        facts["backup"] = self._backup(config)
        if exe:
            stored = self.stored(exe, facts["name"])
            facts["stored"], facts["stored_error"] = stored["thumbprint"], stored["error"]
        if self.p["loopback"] and facts["state"] == "Running":
            facts["served"] = self.look_at_served(facts["port"], None, self.p["loopback_seconds"])

    def _instance(self, index: Path) -> JsonObject:
        facts: JsonObject = {
            "name": index.stem,
            "config": None,
            "service": None,
            "error": None,
            "configured": None,
            "trusted": [],
            "no_listen": False,
            "port": _DEFAULT_PORT,
            "listen_ip": None,
            "home": None,
            "state": "Missing",
            "start_mode": None,
            "account": None,
            "process": None,
            "process_started": None,
            "children": [],
            "served": None,
            "journal": None,
            "backup": None,
            "trusting": None,
        }
        try:
            self._fill(facts, index)
        except ScriptError as error:
            facts["error"] = error.message
        return facts

    def _fill(self, facts: JsonObject, index: Path) -> None:
        """Tell one thing after the other, until one fails."""
        entry = from_json(self.read_text(index))
        facts["name"] = entry["Name"]
        facts["config"] = config = entry["ConfigurationFilePath"]
        facts["service"] = _service_name(entry["Name"])
        facts |= self.service_facts(facts["service"])
        facts["children"] = self.children(facts["process"])

        document = self.read_configuration(config)
        facts["configured"] = thumbprint_of(document)
        facts["trusted"] = trusted_of(document)
        facts["no_listen"] = same(document.get("Tentacle.Services.NoListen"), "true")
        port = document.get("Tentacle.Services.PortNumber")
        if port:
            facts["port"] = _port(port)
        facts["listen_ip"] = document.get("Tentacle.Services.ListenIP")
        facts["home"] = document.get("Octopus.Home")
        facts["journal"] = select_journal(self.read_journal(config))
        facts["backup"] = self._backup(config)
        facts["trusting"] = self.trusting(document, config, facts)["thumbprints"]
        if self.p["loopback"] and not facts["no_listen"] and facts["state"] == "Running":
            facts["served"] = self.look_at_served(facts["port"], facts["listen_ip"], self.p["loopback_seconds"])

    def _backup(self, config: str) -> str | None:
        """Return the newest run whose copy of this configuration is still kept."""
        folder = self.work_folder()
        if not folder.is_dir():
            return None
        newest: Fields | None = None
        for file in sorted(folder.glob("*/about.json")):
            about = from_json(self.read_text(file))
            if same(about["config"], config) and (newest is None or about["at"] > newest["at"]):
                newest = about
        return newest.get("run") if newest else None


def _service_name(instance: str) -> str:
    return "OctopusDeploy Tentacle" if same(instance, "Tentacle") else f"OctopusDeploy Tentacle: {instance}"


def _server_service_name(instance: str) -> str:
    return "OctopusDeploy" if same(instance, "OctopusServer") else f"OctopusDeploy: {instance}"


def _port(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ScriptError(f"The input string '{text}' was not in a correct format.", "System.FormatException") from None

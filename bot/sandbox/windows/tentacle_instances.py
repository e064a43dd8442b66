"""The Tentacle program's commands about instances: list, create, delete, show-configuration, version."""

import json

from bot.sandbox.windows import configuration as keys
from bot.sandbox.windows.configuration import Configuration
from bot.sandbox.windows.schedule import WATCHDOG
from bot.sandbox.windows.tentacle import DEFAULT
from bot.sandbox.windows.tentacle_call import Call, Crash

_EMPTY = "<?xml version='1.0' encoding='UTF-8' ?><octopus-settings></octopus-settings>"


def list_instances(call: Call) -> None:
    """Run `list-instances`."""
    shape = call.check_format()
    entries = call.index.entries()
    if shape == "json":
        rows = [{"InstanceName": e.name, "ConfigurationFilePath": str(e.config)} for e in entries]
        call.write(json.dumps(rows, indent=2))
    elif not entries:
        call.write("No instances installed")
    for entry in entries if shape == "text" else ():
        call.info(f"Instance '{entry.name}' uses configuration '{entry.config}'.")


def create_instance(call: Call) -> None:
    """Run `create-instance`."""
    config = call.path(call.value("config") or "Tentacle.config")
    home = call.path(call.value("home")) if call.value("home") else config.parent
    name = call.value("instance") or DEFAULT
    config.parent.mkdir(parents=True, exist_ok=True)
    if config.exists():
        call.info(f"Configuration file at {config} already exists.")
    else:
        call.info(f"Creating empty configuration file: {config}")
        config.write_text(_EMPTY, encoding="utf-8")
    call.index.add(name, config)
    call.info(f"Saving instance: {name}")
    call.info(f"Setting home directory to: {home}")
    Configuration.load(config).set(keys.HOME, str(home))


def delete_instance(call: Call) -> None:
    """Run `delete-instance`."""
    if name := call.selected.name:
        call.index.remove(name)
        call.info(f"Deleted instance: {name}")


def show_configuration(call: Call) -> None:
    """Run `show-configuration`: always JSON."""
    _ = call.selected
    configuration = call.load()
    text = json.dumps(_document(call, configuration), indent=2) + "\n"
    if target := call.value("file"):
        if not call.host.profile.is_windows:
            raise Crash(
                f"Could not find the drive '{target}'. The drive might not be ready or might not be mapped.",
                "System.IO.DriveNotFoundException",
            )
        call.path(target).write_text(text, encoding="utf-8")
    else:
        call.write(text)


def version(call: Call) -> None:
    """Run `version`."""
    shape = call.check_format()
    number = call.host.profile.tentacle_version
    plain = number.partition("-")[0]
    prerelease = plain != number
    if shape == "text":
        call.write(number)
        return
    document = {
        "InformationalVersion": number,
        "MajorMinorPatch": plain,
        "NuGetVersion": number,
        "SourceBranchName": "UNKNOWNBRANCH" if prerelease else "main",
        "IsPrerelease": prerelease,
    }
    call.write(json.dumps(document, indent=2))


def _document(call: Call, configuration: Configuration) -> dict[str, object]:
    task = call.host.schedule.find(WATCHDOG)
    count = configuration.settings.get(keys.POLLING_COUNT)
    return {
        "Octopus": {
            "Home": configuration.settings.get(keys.HOME),
            "Watchdog": {
                "Enabled": task is not None,
                "Instances": task.arguments.rpartition(" ")[2] if task else "*",
                "Interval": int(task.interval.total_seconds() // 60) if task and task.interval else 0,
            },
        },
        "Tentacle": {
            "CertificateThumbprint": configuration.thumbprint or "",
            "Communication": {
                "PollingConnectionCount": int(count) if count else None,
                "TrustedOctopusServers": [e.document() for e in configuration.trusted],
            },
            "Deployment": {
                "ApplicationDirectory": configuration.settings.get(keys.APPLICATIONS)
                or call.host.profile.application_directory
            },
            "Services": {
                "ListenIP": configuration.listen_address,
                "NoListen": configuration.no_listen,
                "PortNumber": configuration.port,
            },
        },
    }

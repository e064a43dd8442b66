"""The script that an engineer writes in an afternoon: pywinrm's Session in a thread pool, and httpx for Octopus.

It is as good as such scripts are: it checks exit codes, restarts the service, corrects the record and asks for a health
check. It has no plan, no approval, no undo, and forgets everything when it is killed.
"""

import json
import re
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import winrm

SPEC = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
OCTOPUS = httpx.Client(
    base_url=SPEC["octopus"], headers={"X-Octopus-ApiKey": SPEC["api_key"]}, timeout=60, trust_env=False
)


def patiently(method: str, url: str, **options) -> httpx.Response:
    """Ask Octopus, and again after the time that a 429 names."""
    while True:
        answer = OCTOPUS.request(method, url, **options)
        if answer.status_code != 429:
            return answer.raise_for_status()
        time.sleep(float(answer.headers.get("Retry-After", 1)))


def run(session: winrm.Session, script: str) -> str:
    """Run a script on a host; return what it printed."""
    result = session.run_ps(script)
    if result.status_code:
        raise RuntimeError(result.std_err or result.std_out)
    return result.std_out.decode()


def rotate(host: dict[str, str]) -> str:
    """Rotate one Tentacle; return its record's id."""
    session = winrm.Session(
        f"https://{host['address']}:5986/wsman",
        auth=(SPEC["user"], SPEC["password"]),
        transport="ntlm",
        ca_trust_path=SPEC["ca_file"],
        read_timeout_sec=330,
        operation_timeout_sec=300,
    )
    tentacle = f"& '{host['exe']}' "
    instance = f" '--instance' '{host['instance']}' '--console'"
    run(session, tentacle + "'show-thumbprint'" + instance)
    run(session, f"Stop-Service -Name '{host['service']}'")
    run(session, tentacle + "'new-certificate'" + instance)
    run(session, f"Start-Service -Name '{host['service']}'")
    shown = run(session, tentacle + "'show-thumbprint'" + instance)
    thumbprint = re.findall(r"[0-9A-F]{40}", shown)[-1]
    url = f"/api/Spaces-1/machines/{host['machine']}"
    machine = patiently("GET", url).json()
    machine["Endpoint"]["Thumbprint"] = machine["Thumbprint"] = thumbprint
    patiently("PUT", url, json=machine)
    return host["machine"]


def main() -> None:
    """Rotate all, then have Octopus look at all."""
    with ThreadPoolExecutor(SPEC["in_flight"]) as pool:
        machines = list(pool.map(rotate, SPEC["hosts"]))
    arguments = {"Timeout": "00:05:00", "MachineTimeout": "00:05:00", "MachineIds": machines}
    body = {"Name": "Health", "Description": "check", "Arguments": arguments, "SpaceId": "Spaces-1"}
    task = patiently("POST", "/api/Spaces-1/tasks", json=body).json()["Id"]
    while not (state := patiently("GET", f"/api/tasks/{task}").json())["IsCompleted"]:
        time.sleep(1)
    if state["State"] != "Success":
        raise SystemExit(f"the health check ended as {state['State']}")


if __name__ == "__main__":
    main()

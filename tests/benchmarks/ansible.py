"""Ansible's turn: writes an inventory and runs the playbook beside it, with as many forks as targets in flight."""

import json
import os
import subprocess
import sys
from pathlib import Path

SPEC = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))


def main() -> None:
    """Run the playbook; end as it ends."""
    folder = Path(SPEC["folder"])
    hosts = {
        h["name"]: {"ansible_host": h["address"], **{k: h[k] for k in ("exe", "instance", "service", "machine")}}
        for h in SPEC["hosts"]
    }
    variables = {
        "ansible_connection": "winrm",
        "ansible_user": SPEC["user"],
        "ansible_password": SPEC["password"],
        "ansible_port": 5986,
        "ansible_winrm_transport": "ntlm",
        "ansible_winrm_ca_trust_path": SPEC["ca_file"],
        "ansible_winrm_operation_timeout_sec": 300,
        "ansible_winrm_read_timeout_sec": 330,
        "octopus": SPEC["octopus"],
        "api_key": SPEC["api_key"],
    }
    inventory = folder / "inventory.json"
    inventory.write_text(json.dumps({"all": {"hosts": hosts, "vars": variables}}), encoding="utf-8")
    environment = {
        **os.environ,
        "ANSIBLE_FORKS": str(SPEC["in_flight"]),
        "ANSIBLE_LOCAL_TEMP": str(folder / "tmp"),
        "ANSIBLE_HOME": str(folder / "home"),
        "ANSIBLE_STDOUT_CALLBACK": "minimal",
        "ANSIBLE_DEPRECATION_WARNINGS": "False",
        "no_proxy": "*",
    }
    program = Path(sys.executable).with_name("ansible-playbook")
    done = subprocess.run(
        [program, "-i", inventory, Path(__file__).with_name("playbook.yml")], env=environment, check=False
    )
    raise SystemExit(done.returncode)


if __name__ == "__main__":
    main()

"""What the bot's key may do, asked of Octopus before anything is touched instead of being tried by writing."""

from collections.abc import Iterable, Sequence
from typing import Any

from bot.domain.facts import Record, RecordKind
from bot.octopus.documents import Space
from bot.octopus.errors import OctopusError, OctopusErrorKind
from bot.octopus.wire import Wire

NEEDED = {
    RecordKind.TARGET: ("MachineView", "MachineEdit"),
    RecordKind.WORKER: ("WorkerView", "WorkerEdit"),
}
"""What reading and correcting a record asks for (OctopusClients: Model/Permission.cs)."""
NEEDED_FOR_HEALTH = ("TaskView", "TaskCreate")
"""What queueing and following a Health task asks for, and seeing whether a target is busy."""
SEEING = {RecordKind.TARGET: "MachineView", RecordKind.WORKER: "WorkerView"}
_ENVIRONMENT_VIEW = "EnvironmentView"
_EVERYWHERE = {None, "", "*", "spaces-all"}
# A list of restrictions is empty, or holds such a word, where there is no restriction (OctopusDeployLabs' API client).
_ANY = ("-all", "-unrelated")

Grants = dict[str, list[dict[str, Any]]]


class Permissions:
    """The permissions of the account whose key is used: `/api/users/{id}/permissions`."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def missing(self, records: Sequence[Record]) -> tuple[str, ...]:
        """Return, as phrases, each permission that rotating these records needs and the key lacks; nothing if none.

        A machine in several environments needs the permission in each of them; whether Octopus asks for all or for one
        is UNVERIFIED. A permission limited to projects does not help a health check; one limited to tenants is taken
        as missing, because Octopus then leaves machines out without a word.
        """
        if not records:
            return ()
        grants = self._grants()
        found: list[str] = []
        for space_id, mine in _by_space(records).items():
            ids = self._environment_ids(space_id, mine)
            space = mine[0].space
            for record in mine:
                for permission in (*NEEDED[record.kind], *NEEDED_FOR_HEALTH):
                    bare = [e for e in record.environments if not _may(grants, permission, space_id, ids.get(e, e))]
                    if record.environments and record.kind is RecordKind.TARGET:
                        found += [f"{permission} for the environment {e} of {space}" for e in bare]
                    elif not _may(grants, permission, space_id, None):
                        found.append(f"{permission} in {space}")
        return tuple(dict.fromkeys(found))

    def spaces_seen_in_part(self, spaces: Iterable[Space]) -> tuple[str, ...]:
        """Return, as phrases, the spaces in which the key sees some machines and Octopus hides others silently."""
        grants = self._grants()
        found = []
        for space in spaces:
            partial = [
                permission
                for permission in SEEING.values()
                if _given(grants, permission, space.id) and not _may(grants, permission, space.id, None)
            ]
            if partial:
                found.append(f"{space.name} ({' and '.join(partial)} only for some environments or tenants)")
        return tuple(found)

    def _grants(self) -> Grants:
        me = self._wire.get_document("/api/users/me")
        path = f"/api/users/{me.get('Id')}/permissions"
        answer = self._wire.get_document(path, {"spaces": "all", "includeSystem": True})
        grants = answer.get("SpacePermissions")
        if not isinstance(grants, dict):
            raise self._wire.unexpected(path, "the permissions of the key's account were expected")
        return {name: [g for g in given if isinstance(g, dict)] for name, given in grants.items() if given}

    def _environment_ids(self, space_id: str, records: Sequence[Record]) -> dict[str, str]:
        """Return ids by names: permissions name environments by id, records by name."""
        if not any(record.environments for record in records):
            return {}
        try:
            documents = self._wire.get_list(f"/api/{space_id}/environments/all")
        except OctopusError as error:
            if error.kind is OctopusErrorKind.FORBIDDEN:
                return {}
            raise
        return {
            d["Name"]: d["Id"] for d in documents if isinstance(d.get("Name"), str) and isinstance(d.get("Id"), str)
        }


def _by_space(records: Sequence[Record]) -> dict[str, list[Record]]:
    found: dict[str, list[Record]] = {}
    for record in records:
        found.setdefault(record.space_id, []).append(record)
    return found


def _given(grants: Grants, permission: str, space_id: str) -> bool:
    return any(grant.get("SpaceId") in {*_EVERYWHERE, space_id} for grant in grants.get(permission, ()))


def _may(grants: Grants, permission: str, space_id: str, environment_id: str | None) -> bool:
    """Return whether the permission holds in a space for one environment, or for all of it (None)."""
    for grant in grants.get(permission, ()):
        if grant.get("SpaceId") not in {*_EVERYWHERE, space_id}:
            continue
        if any(_limits(grant, of) for of in ("TenantIds", "ProjectIds", "ProjectGroupIds")):
            continue
        allowed = _limits(grant, "EnvironmentIds")
        if not allowed or environment_id in allowed:
            return True
    return False


def _limits(grant: dict[str, Any], of: str) -> tuple[str, ...]:
    """Return the ids to which a permission is limited; none means not at all."""
    ids = tuple(i for i in grant.get(f"RestrictedTo{of}") or () if isinstance(i, str))
    return () if any(i == "*" or i.endswith(_ANY) for i in ids) else ids

"""Users, API keys and what they may do, restricted by space, environment and tenant as in Octopus."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bot.sandbox.octopus.errors import ApiError

SPACE_PERMISSIONS = (
    "DeploymentCreate",
    "DeploymentView",
    "EnvironmentView",
    "MachineCreate",
    "MachineDelete",
    "MachineEdit",
    "MachinePolicyView",
    "MachineView",
    "ProjectView",
    "TaskCancel",
    "TaskCreate",
    "TaskView",
    "TaskViewLog",
    "TenantView",
    "WorkerEdit",
    "WorkerView",
)
"""Those of Octopus's permissions that concern this sandbox and are given per space."""
SYSTEM_PERMISSIONS = ("AdministerSystem", "ConfigureServer", "SpaceView", "UserView")
"""Those that are given for the whole Server."""
_SCOPED = ("Deployment", "Environment", "Machine", "Project", "Task", "Tenant")
"""Beginnings of permissions that can be restricted to environments; those of workers and policies cannot
(OctopusClients, Model/Permission.cs: SupportsRestriction)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """One permission, in one space or all, perhaps only for some environments or tenants."""

    permission: str
    space: str | None = None
    """Id of the space, None for all."""
    environments: tuple[str, ...] = ()
    """Ids of the environments to which it is restricted; none: not restricted."""
    tenants: tuple[str, ...] = ()

    def covers(self, space: str, environments: Iterable[str] | None, tenants: Iterable[str]) -> bool:
        """Tell whether it holds for something in this space and these environments; None: wherever it is."""
        if self.space not in {None, space}:
            return False
        if self.environments and environments is not None and not set(self.environments) & set(environments):
            return False
        return not self.tenants or bool(set(self.tenants) & set(tenants))

    def to_restriction(self) -> dict[str, object]:
        """Return it as OctopusClients' UserPermissionRestriction."""
        return {
            "RestrictedToProjectIds": [],
            "RestrictedToEnvironmentIds": list(self.environments),
            "RestrictedToTenantIds": list(self.tenants),
            "RestrictedToProjectGroupIds": [],
            "SpaceId": self.space,
        }


ALL: tuple[Grant, ...] = tuple(Grant(permission=p) for p in SPACE_PERMISSIONS + SYSTEM_PERMISSIONS)
"""Everything, everywhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """An account of the Octopus Server with its one API key."""

    id: str
    username: str
    api_key: str
    grants: tuple[Grant, ...]

    def may(self, permission: str, space: str = "", environments: Sequence[str] | None = None) -> bool:
        """Tell whether the user has a permission for something in a space and (any of) its environments."""
        return any(g.permission == permission and g.covers(space, environments, ()) for g in self.grants)

    def may_see(self, permission: str, space: str, environments: Sequence[str], tenants: Sequence[str]) -> bool:
        """Tell whether the user has a permission for a machine in at least one of its environments and tenants."""
        return any(g.permission == permission and g.covers(space, environments, tenants) for g in self.grants)

    def demand(self, permission: str, space: str = "", environments: Sequence[str] | None = None) -> None:
        """Raise Octopus's 403 unless the user has the permission."""
        if not self.may(permission, space, environments):
            raise forbidden(permission)

    def enters(self, space: str) -> bool:
        """Tell whether the user has any permission in a space; others are missing from the list of spaces."""
        return any(g.permission in SPACE_PERMISSIONS and g.space in {None, space} for g in self.grants)

    def to_document(self) -> dict[str, object]:
        """Return the user as `/api/users/me` shows it."""
        return {
            "Id": self.id,
            "Username": self.username,
            "DisplayName": self.username,
            "IsActive": True,
            "IsService": True,
            "EmailAddress": None,
            "CanPasswordBeEdited": False,
            "IsRequestor": True,
            "Links": {
                "Self": f"/api/users/{self.id}",
                "Permissions": f"/api/users/{self.id}/permissions",
                "ApiKeys": f"/api/users/{self.id}/apikeys{{/id}}{{?skip,take}}",
            },
        }

    def to_permission_set(self, spaces: Sequence[str], *, system: bool = True) -> dict[str, object]:
        """Return OctopusClients' UserPermissionSetResource, limited to some spaces.

        A grant for all spaces is listed once per space. How the real Server lists it is UNVERIFIED.
        """
        listed: dict[str, list[dict[str, object]]] = {}
        for grant in self.grants:
            if grant.permission not in SPACE_PERMISSIONS:
                continue
            for space in spaces if grant.space is None else [s for s in spaces if s == grant.space]:
                restriction = grant.to_restriction() | {"SpaceId": space}
                listed.setdefault(grant.permission, []).append(restriction)
        granted = {g.permission for g in self.grants}
        return {
            "Id": self.id,
            "SpacePermissions": listed,
            "SystemPermissions": sorted(granted & set(SYSTEM_PERMISSIONS)) if system else [],
            "Teams": [],
            "IsTeamsComplete": True,
            "IsPermissionsComplete": True,
            "Links": {"Self": f"/api/users/{self.id}/permissions"},
        }


def granted(
    permissions: Iterable[Grant | str], spaces: Sequence[str] | None, environments: Sequence[str]
) -> tuple[Grant, ...]:
    """Turn names of permissions into grants for these spaces (None: all) and environments (none: all)."""
    found: list[Grant] = []
    for permission in permissions:
        if isinstance(permission, Grant):
            found.append(permission)
        elif permission in SYSTEM_PERMISSIONS:
            found.append(Grant(permission=permission))
        else:
            limits = tuple(environments) if permission.startswith(_SCOPED) else ()
            found += [Grant(permission=permission, space=s, environments=limits) for s in spaces or (None,)]
    return tuple(found)


def forbidden(permission: str) -> ApiError:
    """Return the 403 that names a missing permission (text: OctopusDeploy/Issues #8726)."""
    return ApiError(
        403,
        "You do not have permission to perform this action. Please contact your Octopus administrator. "
        f"Missing permission: {permission}",
    )

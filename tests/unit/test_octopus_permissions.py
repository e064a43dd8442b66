"""Octopus's permission sets are read in all the spellings of "without restriction"."""

from typing import Any

import pytest

from bot.octopus.permissions import _given, _may

SPACE, TEST, LIVE = "Spaces-1", "Environments-1", "Environments-2"


def grants(**restrictions: Any) -> dict[str, list[dict[str, Any]]]:
    """Return a permission set with one permission under these restrictions."""
    return {"MachineEdit": [{"SpaceId": SPACE, **restrictions}]}


@pytest.mark.parametrize("ids", [None, [], ["environments-all"], ["environments-unrelated"], ["*"]])
def test_a_permission_without_restriction_holds_everywhere(ids: list[str] | None) -> None:
    """An absent list, an empty one, and Octopus's words for all are the same."""
    assert _may(grants(RestrictedToEnvironmentIds=ids), "MachineEdit", SPACE, LIVE)
    assert _may(grants(RestrictedToEnvironmentIds=ids), "MachineEdit", SPACE, None)


def test_a_permission_for_an_environment_holds_there_only() -> None:
    """Neither another environment nor the whole space follows from it; another space anyway not."""
    narrow = grants(RestrictedToEnvironmentIds=[TEST])
    assert _may(narrow, "MachineEdit", SPACE, TEST)
    assert not _may(narrow, "MachineEdit", SPACE, LIVE)
    assert not _may(narrow, "MachineEdit", SPACE, None)
    assert not _may(narrow, "MachineEdit", "Spaces-2", TEST)
    assert _given(narrow, "MachineEdit", SPACE)
    assert not _given(narrow, "MachineEdit", "Spaces-2")


@pytest.mark.parametrize("space", [None, "", "*", "spaces-all"])
def test_a_permission_for_all_spaces_holds_in_each(space: str | None) -> None:
    """A team of the whole Server gives its permissions in every space."""
    assert _may({"MachineEdit": [{"SpaceId": space}]}, "MachineEdit", SPACE, LIVE)


@pytest.mark.parametrize("of", ["TenantIds", "ProjectIds", "ProjectGroupIds"])
def test_a_permission_for_tenants_or_projects_is_not_enough(of: str) -> None:
    """Octopus leaves machines out silently there; with its words for all it is no restriction."""
    assert not _may(grants(**{f"RestrictedTo{of}": ["Things-1"]}), "MachineEdit", SPACE, LIVE)
    assert _may(grants(**{f"RestrictedTo{of}": ["things-unrelated"]}), "MachineEdit", SPACE, LIVE)


def test_several_grants_add_up() -> None:
    """Two teams may each give a part."""
    both = {"MachineEdit": [*grants(RestrictedToEnvironmentIds=[TEST])["MachineEdit"], {"SpaceId": "Spaces-2"}]}
    assert _may(both, "MachineEdit", SPACE, TEST)
    assert _may(both, "MachineEdit", "Spaces-2", LIVE)
    assert not _may(both, "MachineView", SPACE, TEST)

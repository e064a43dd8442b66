"""The sandbox's Octopus Server answers as Octopus's clients and docs say that the real one does."""

import ssl
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from bot.domain.facts import RecordKind, Style
from bot.sandbox.octopus.server import OctopusServer
from bot.sandbox.windows.tentacle import TentacleInstance
from bot.sandbox.world import World

SPACE = "/api/Spaces-1"
OTHER = "A" * 40


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """Build a world in which nothing takes long."""
    made = World(tmp_path, pace=0.02, powershell=None)
    yield made
    made.close()


@pytest.fixture
def octopus(world: World) -> Iterator[OctopusServer]:
    """Start an Octopus Server."""
    made = OctopusServer(world)
    made.start()
    yield made
    made.close()


@pytest.fixture
def api(octopus: OctopusServer) -> Iterator[httpx.Client]:
    """Open a client whose key may do everything."""
    with client(octopus, octopus.api_key) as made:
        yield made


@pytest.fixture
def tentacle(world: World) -> TentacleInstance:
    """Install a listening Tentacle, not started: who only reads documents does not need its service."""
    return world.add_host("web-01").add_tentacle(start=False)


def client(octopus: OctopusServer, key: str | None) -> httpx.Client:
    """Return a client with a key, or none."""
    return httpx.Client(base_url=octopus.url, headers={"X-Octopus-ApiKey": key} if key else {})


def add(octopus: OctopusServer, tentacle: TentacleInstance, name: str = "web-01", **more: object) -> str:
    """Register the Tentacle once more, as a target in Production."""
    return octopus.add_record(name, tentacle, environments=["Production"], roles=["web"], **more)  # type: ignore[arg-type]


def test_the_root_is_open_and_the_rest_wants_a_key(octopus: OctopusServer) -> None:
    """Anybody may read the version; everything else answers 401 without a valid key."""
    with client(octopus, None) as nobody, client(octopus, "API-WRONG") as stranger:
        assert nobody.get("/api").json()["Version"] == "2026.2.1000"
        assert nobody.get("/api/spaces/all").status_code == 401
        answer = stranger.get("/api/users/me")
        assert answer.status_code == 401
        assert "API key" in answer.json()["ErrorMessage"]


def test_a_target_shows_every_member_that_octopus_shows(
    octopus: OctopusServer, api: httpx.Client, tentacle: TentacleInstance
) -> None:
    """The document of a listening target has the members of MachineResource and its endpoint."""
    record = add(octopus, tentacle)
    document = api.get(f"{SPACE}/machines/{record}").json()
    assert document["Endpoint"]["CommunicationStyle"] == "TentaclePassive"
    assert document["Endpoint"]["Uri"] == f"https://{tentacle.host.address}:10933/"
    assert document["Endpoint"]["Thumbprint"] == document["Thumbprint"] == tentacle.configured
    assert document["HealthStatus"] == "Unknown"
    assert document["StatusSummary"] == "This machine was recently added. Please perform a health check."
    assert document["Links"]["TasksTemplate"].startswith(f"{SPACE}/machines/{record}/tasks")
    assert "WorkerPoolIds" not in document


def test_a_worker_has_pools_and_no_environments(
    octopus: OctopusServer, api: httpx.Client, tentacle: TentacleInstance
) -> None:
    """Workers stand below /workers with their pools, and have no list of tasks."""
    record = octopus.add_record("worker-01", tentacle, kind=RecordKind.WORKER, pools=["Windows"])
    document = api.get(f"{SPACE}/workers/{record}").json()
    pools = {p["Id"]: p["Name"] for p in api.get(f"{SPACE}/workerpools/all").json()}
    assert [pools[i] for i in document["WorkerPoolIds"]] == ["Windows"]
    assert "EnvironmentIds" not in document
    assert api.get(f"{SPACE}/workers/{record}/tasks").status_code == 404
    assert api.get(f"{SPACE}/machines/{record}").status_code == 404


def test_lists_come_in_pages_of_thirty(octopus: OctopusServer, api: httpx.Client, tentacle: TentacleInstance) -> None:
    """A list ends after 30 items unless more are asked for; `Page.Next` leads on, `/all` is a bare array."""
    for number in range(35):
        add(octopus, tentacle, f"web-{number:02}")
    page = api.get(f"{SPACE}/machines").json()
    assert (len(page["Items"]), page["TotalResults"], page["NumberOfPages"]) == (30, 35, 2)
    rest = api.get(page["Links"]["Page.Next"]).json()
    assert [d["Name"] for d in rest["Items"]] == [f"web-{n:02}" for n in range(30, 35)]
    assert "Page.Next" not in rest["Links"]
    assert len(api.get(f"{SPACE}/machines", params={"take": 1000}).json()["Items"]) == 35
    assert len(api.get(f"{SPACE}/machines/all").json()) == 35


def test_the_thumbprint_filter_works_on_all_only(
    octopus: OctopusServer, api: httpx.Client, tentacle: TentacleInstance
) -> None:
    """`?thumbprint=` filters `/machines/all`, and does nothing on the paged list."""
    add(octopus, tentacle)
    add(octopus, tentacle, "web-02", Thumbprint=OTHER)
    found = api.get(f"{SPACE}/machines/all", params={"thumbprint": OTHER}).json()
    assert [d["Name"] for d in found] == ["web-02"]
    assert api.get(f"{SPACE}/machines", params={"thumbprint": OTHER}).json()["TotalResults"] == 2
    by_name = api.get(f"{SPACE}/machines", params={"partialName": "02", "commStyles": "TentaclePassive"}).json()
    assert [d["Name"] for d in by_name["Items"]] == ["web-02"]


def test_a_put_replaces_everything(octopus: OctopusServer, api: httpx.Client, tentacle: TentacleInstance) -> None:
    """A PUT with a policy left out silently gets the default one, and lists left out are emptied."""
    policy = octopus.add_policy("Default", "Strict", may_be_offline=False)
    record = add(octopus, tentacle, MachinePolicyId=policy, TenantTags=["Region/EU"])
    document = api.get(f"{SPACE}/machines/{record}").json()
    assert document["MachinePolicyId"] == policy
    for forgotten in ("MachinePolicyId", "TenantTags", "HealthStatus"):
        del document[forgotten]
    answer = api.put(f"{SPACE}/machines/{record}", json=document).json()
    assert answer["MachinePolicyId"] == "MachinePolicies-1"
    assert answer["TenantTags"] == []
    assert answer["HealthStatus"] == "Unknown"
    assert octopus.puts[-1].changed == ("TenantTags", "MachinePolicyId")


def test_a_put_of_a_new_thumbprint_is_kept_as_sent(
    world: World, octopus: OctopusServer, api: httpx.Client, tentacle: TentacleInstance
) -> None:
    """Only the endpoint's thumbprint counts; the top-level one mirrors it; each PUT is counted as an effect."""
    record = add(octopus, tentacle)
    document = api.get(f"{SPACE}/machines/{record}").json()
    document["Thumbprint"] = "ignored"
    document["Endpoint"]["Thumbprint"] = OTHER.lower()
    assert api.put(f"{SPACE}/machines/{record}", json=document).json()["Thumbprint"] == OTHER.lower()
    assert octopus.document(record)["Endpoint"]["Thumbprint"] == OTHER.lower()
    (put,) = octopus.puts
    assert (put.old, put.new, put.user) == (tentacle.configured, OTHER.lower(), "octocert")
    assert [e.kind for e in world.effects if e.host == "octopus"] == ["put"]


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"Roles": None}, "Roles is required"),
        ({"Endpoint": {"CommunicationStyle": "TentaclePassive", "Uri": "https://a/"}}, "provide a thumbprint"),
        ({"EnvironmentIds": ["Environments-99"]}, "could not be found"),
        ({"SpaceId": "Spaces-2"}, "SpaceId"),
    ],
)
def test_a_put_that_is_not_valid_is_refused(
    octopus: OctopusServer, api: httpx.Client, tentacle: TentacleInstance, change: dict[str, object], error: str
) -> None:
    """400 with the reasons in `Errors`; the document stays as it was."""
    record = add(octopus, tentacle)
    before = octopus.document(record)
    answer = api.put(f"{SPACE}/machines/{record}", json=before | change)
    assert answer.status_code == 400
    assert any(error in e for e in answer.json()["Errors"])
    assert octopus.document(record) == before
    assert octopus.puts == []


def test_spaces_keep_their_records_apart(octopus: OctopusServer, api: httpx.Client, tentacle: TentacleInstance) -> None:
    """A record is found in its own space only; un-scoped paths mean the default space."""
    other = octopus.add_space("Payments")
    record = add(octopus, tentacle, space="Payments")
    assert [s["Name"] for s in api.get("/api/spaces/all").json()] == ["Default", "Payments"]
    for prefix in (f"/api/{other}", f"/api/spaces/{other}"):
        assert api.get(f"{prefix}/machines/{record}").status_code == 200
    assert api.get(f"{SPACE}/machines/{record}").status_code == 404
    assert api.get(f"/api/machines/{record}").status_code == 404
    assert api.get("/api/Spaces-77/machines").status_code == 404


def test_a_scoped_key_sees_a_silently_shorter_list(
    octopus: OctopusServer, tentacle: TentacleInstance, world: World
) -> None:
    """A key for one environment of one space is told nothing of what it cannot see."""
    octopus.add_space("Payments")
    octopus.add_environment("Default", "Staging")
    add(octopus, tentacle)
    hidden = octopus.add_record("stage-01", tentacle, environments=["Staging"])
    add(octopus, tentacle, "pay-01", space="Payments")
    key = octopus.add_api_key(
        "scoped", ("MachineView", "EnvironmentView"), spaces=["Default"], environments=["Production"]
    )
    with client(octopus, key) as scoped:
        assert [s["Name"] for s in scoped.get("/api/spaces/all").json()] == ["Default"]
        assert [d["Name"] for d in scoped.get(f"{SPACE}/machines/all").json()] == ["web-01"]
        assert [e["Name"] for e in scoped.get(f"{SPACE}/environments/all").json()] == ["Production"]
        assert scoped.get(f"{SPACE}/machines/{hidden}").status_code == 404


def test_permissions_are_shown_as_octopus_shows_them(octopus: OctopusServer, tentacle: TentacleInstance) -> None:
    """`/users/{id}/permissions` is a UserPermissionSetResource: restrictions per permission and space."""
    production = octopus.add_environment("Default", "Production")
    key = octopus.add_api_key(
        "scoped", ("MachineView", "WorkerView", "UserView"), spaces=["Default"], environments=["Production"]
    )
    with client(octopus, key) as scoped:
        me = scoped.get("/api/users/me").json()
        shown = scoped.get(me["Links"]["Permissions"]).json()
    (restriction,) = shown["SpacePermissions"]["MachineView"]
    assert restriction == {
        "RestrictedToProjectIds": [],
        "RestrictedToEnvironmentIds": [production],
        "RestrictedToTenantIds": [],
        "RestrictedToProjectGroupIds": [],
        "SpaceId": "Spaces-1",
    }
    assert shown["SpacePermissions"]["WorkerView"][0]["RestrictedToEnvironmentIds"] == []
    assert shown["SystemPermissions"] == ["UserView"]


def test_a_missing_permission_is_named(octopus: OctopusServer, tentacle: TentacleInstance) -> None:
    """403 says which permission is missing, and nothing is changed."""
    record = add(octopus, tentacle)
    key = octopus.add_api_key("reader", ("MachineView",))
    with client(octopus, key) as reader:
        document = reader.get(f"{SPACE}/machines/{record}").json()
        for answer, permission in (
            (reader.put(f"{SPACE}/machines/{record}", json=document), "MachineEdit"),
            (reader.get(f"{SPACE}/workers"), "WorkerView"),
            (reader.post(f"{SPACE}/tasks", json={"Name": "Health", "Description": "x"}), "TaskCreate"),
            (reader.get("/api/octopusservernodes/summary"), "AdministerSystem"),
        ):
            assert answer.status_code == 403
            assert answer.json()["ErrorMessage"].endswith(f"Missing permission: {permission}")
    assert octopus.puts == []


def test_the_servers_certificate_nodes_and_status(octopus: OctopusServer, api: httpx.Client) -> None:
    """The Server tells its communications certificate, its node, whether it is well and not in maintenance."""
    certificate = api.get("/api/configuration/certificates/certificate-global").json()
    assert certificate["Thumbprint"] == octopus.thumbprint
    assert certificate["SignatureAlgorithm"] == "sha256RSA"
    (node,) = api.get("/api/octopusservernodes/summary").json()["Nodes"]
    assert (node["MaxConcurrentTasks"], node["IsInMaintenanceMode"]) == (5, False)
    assert api.get("/api/serverstatus/health").json()["IsOperatingNormally"] is True
    assert api.get("/api/maintenanceconfiguration").json()["IsInMaintenanceMode"] is False


def test_discover_shows_what_the_server_sees(world: World, octopus: OctopusServer, api: httpx.Client) -> None:
    """`/machines/discover` reads the served certificate by a handshake, and says when there is nothing to see."""
    tentacle = world.add_host("web-02").add_tentacle()
    seen = api.get(f"{SPACE}/machines/discover", params={"host": tentacle.host.address, "port": 10933}).json()
    assert seen["Endpoint"]["Thumbprint"] == tentacle.served
    assert seen["Endpoint"]["Uri"] == f"https://{tentacle.host.address}:10933/"
    nothing = api.get(f"{SPACE}/workers/discover", params={"host": tentacle.host.address, "port": 10934})
    assert nothing.status_code == 400
    assert "unable to connect" in nothing.json()["ErrorMessage"]


def test_machines_without_a_tentacle_have_no_thumbprint(octopus: OctopusServer, api: httpx.Client) -> None:
    """An SSH target stands in the same list, without a certificate."""
    record = octopus.add_other("bastion-01")
    document = api.get(f"{SPACE}/machines/{record}").json()
    assert document["Thumbprint"] is None
    assert document["Endpoint"]["CommunicationStyle"] == "Ssh"


def test_a_polling_record_has_a_subscription_for_an_address(
    world: World, octopus: OctopusServer, api: httpx.Client
) -> None:
    """The endpoint of a polling Tentacle is its subscription; the legacy Uri is empty."""
    tentacle = world.add_host("edge-01").add_tentacle(style=Style.POLLING)
    record = add(octopus, tentacle, "edge-01")
    document = api.get(f"{SPACE}/machines/{record}").json()
    assert document["Endpoint"]["CommunicationStyle"] == "TentacleActive"
    assert document["Endpoint"]["Uri"] == tentacle.subscription
    assert document["Uri"] is None
    assert [c.thumbprint for c in octopus.comms.callers] == [tentacle.served]


def test_links_into_the_portal_lead_somewhere(octopus: OctopusServer, tentacle: TentacleInstance) -> None:
    """The page in the portal's place shows what there is; it is no traffic of the API."""
    record = add(octopus, tentacle, "<web>")
    with client(octopus, None) as browser:
        page = browser.get("/app").text
    assert f'id="{record}"' in page
    assert "&lt;web&gt;" in page
    assert octopus.traffic == []


def test_the_api_speaks_https_where_asked(world: World) -> None:
    """With `tls` the certificate is one of the estate's own authority."""
    octopus = OctopusServer(world, tls=True)
    octopus.start()
    try:
        trust = ssl.create_default_context(cafile=str(world.ca.file))
        with httpx.Client(base_url=octopus.url, verify=trust) as secure:
            assert octopus.url.startswith("https://")
            assert secure.get("/api").status_code == 200
    finally:
        octopus.close()

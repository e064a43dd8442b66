"""The doctor's look at the Octopus Server: address, version, key, spaces, permissions."""

from bot.clock import Clock
from bot.domain.facts import EstateIndex
from bot.octopus.client import Client, OctopusError, OctopusErrorKind
from bot.operating.examination import Examination, FailedCheckError, Good
from bot.settings import Settings

ADDRESS, VERSION, KEY, TENTACLES, PERMISSIONS = (
    "octopus: address",
    "octopus: version",
    "octopus: key and spaces",
    "octopus: Tentacles",
    "octopus: permissions",
)
PATIENCE_SECONDS = 5.0
"""How long a Server that is away is asked again: whoever waits for the doctor wants to know it."""


def examine(found: Examination, settings: Settings, clock: Clock) -> EstateIndex | None:
    """Look at everything of [octopus]; return the estate where it can be seen."""
    opened: list[Client] = []

    def address() -> Good:
        octopus = Client(
            settings.octopus.url,
            settings.octopus.api_key.read,
            ca_file=settings.octopus.ca_file,
            clock=clock,
            timeout=settings.deadlines.octopus_request,
            patience=PATIENCE_SECONDS,
        )
        opened.append(octopus)
        return Good("An Octopus Server answers there.", _version_of(octopus))

    try:
        found.check(ADDRESS, address, needs=["secret: [octopus] api_key"])
        found.check(VERSION, lambda: _version(found.value(ADDRESS)), needs=[ADDRESS])
        found.check(KEY, lambda: _spaces(opened[0]), needs=[ADDRESS])
        found.check(TENTACLES, lambda: _tentacles(opened[0]), needs=[KEY])
        found.check(PERMISSIONS, lambda: _permissions(opened[0], found.value(TENTACLES)), needs=[TENTACLES])
    finally:
        for octopus in opened:
            octopus.close()
    return found.value(TENTACLES) if found.has(TENTACLES) else None


def _version_of(octopus: Client) -> str:
    try:
        return octopus.version()
    except OctopusError as error:
        if error.kind is OctopusErrorKind.UNAUTHORISED:  # it is an Octopus Server; the key is the next check
            return "?"
        raise


def _version(version: str) -> Good:
    if version == "?":
        return Good("The Server does not tell its version.", advice="Look at it in the portal.")
    return Good(f"Octopus Server {version}.")


def _spaces(octopus: Client) -> Good:
    try:
        spaces = octopus.spaces()
    except OctopusError as error:
        if error.kind is OctopusErrorKind.UNAUTHORISED:
            raise FailedCheckError(
                "The Octopus Server does not accept the API key.",
                "Make a new key on the page of the bot's service account in Octopus and put it where api_key says.",
            ) from None
        raise
    if not spaces:
        raise FailedCheckError(
            "The key enters no space.", "Make the service account a member of a team of the spaces with your Tentacles."
        )
    return Good("The key enters " + ", ".join(s.name for s in spaces) + ".", spaces)


def _tentacles(octopus: Client) -> Good:
    index = octopus.index()
    if not index.records:
        raise FailedCheckError(
            "The key sees no deployment target and no worker with a Tentacle.",
            "Give the service account MachineView and WorkerView in the spaces with your Tentacles.",
        )
    if index.unreadable_spaces:
        raise FailedCheckError(
            f"The machines of {', '.join(index.unreadable_spaces)} cannot be read, so their records would not follow.",
            "Give the service account MachineView and WorkerView there, too.",
        )
    return Good(f"The key sees {len(index.records)} records of Tentacles.", index)


def _permissions(octopus: Client, index: EstateIndex) -> Good:
    missing = octopus.missing_permissions(index.records)
    if missing:
        shown = "; ".join(missing[:8]) + (f" and {len(missing) - 8} more" if len(missing) > 8 else "")
        raise FailedCheckError(
            f"The key lacks {shown}.",
            "Add them to the role of the service account, for all environments and tenants of the space.",
        )
    return Good("Everything that a rotation needs is granted.")

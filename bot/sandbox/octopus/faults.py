"""What may go wrong with the sandbox's Octopus Server, as settings that tests and the demo turn on and off."""

from dataclasses import dataclass, field


@dataclass(slots=True, kw_only=True)
class OctopusFaults:
    """Faults in force. Counters count down with each request that they spoil; the rest holds until it is unset."""

    rate_limited: int = 0
    """So many requests are answered 429 with `Retry-After`, whatever the rate limit says."""
    retry_after: int = 1
    """Seconds in the `Retry-After` of such an answer."""
    server_errors: int = 0
    """So many requests are answered 500, nothing having been done."""
    lost_answers: int = 0
    """So many writes are carried out and then answered 502, as by a proxy that lost the answer."""
    lost_puts: int = 0
    """So many PUTs are answered 200 with what was sent, and stored nowhere."""
    out_of_date: int = 0
    """So many PUTs of machines are refused because "submitted data was out of date" (a race inside the Server)."""
    down: bool = False
    """Every request is answered 503, as by a proxy before a Server that does not answer. See also `restart`."""
    maintenance: bool = False
    """Maintenance mode: only administrators can change things."""
    queued_forever: bool = False
    """The task cap is used up by others: no task is picked up."""
    drained: bool = False
    """The node is drained: it executes no new task, health checks included."""
    vanishing: set[str] = field(default_factory=set)
    """Ids of records that are gone when somebody tries to PUT them (a policy deletes unavailable machines)."""
    cache_seconds: float = 0
    """So long after a PUT the nodes still go by the thumbprint that stood there before."""
    script_health: dict[str, str] = field(default_factory=dict)
    """Id of a record → `Unhealthy` or `HasWarnings`: what its health check script finds once it was reached."""
    health_seconds: float = 0
    """Each Health task takes so many seconds longer."""

"""The error answers of Octopus's REST API."""


class ApiError(Exception):
    """An error that is answered as Octopus answers it: a status, an ErrorMessage and perhaps a list of Errors."""

    def __init__(
        self, status: int, message: str, *, errors: tuple[str, ...] = (), retry_after: int | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.errors = errors
        self.retry_after = retry_after

    def to_document(self) -> dict[str, object]:
        """Return the body (shape: OctopusClients, Exceptions/OctopusExceptionFactory.cs)."""
        return {
            "ErrorMessage": self.message,
            "Errors": list(self.errors),
            "FullException": None,
            "HelpText": None,
            "HelpLink": None,
            "ParsedHelpLinks": None,
            "Details": None,
        }


def missing(id_: str) -> ApiError:
    """Return the 404 for a document that does not exist, or that the key may not see."""
    return ApiError(404, f"The resource '{id_}' was not found.")


def invalid(*errors: str) -> ApiError:
    """Return the 400 of a document that fails validation."""
    return ApiError(400, "There was a problem with your request.", errors=errors)

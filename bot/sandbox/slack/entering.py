"""What people choose and type, in the form in which Slack tells it."""

from bot.sandbox.slack.model import Json


def selection(kind: str, raw: Json, value: str) -> Json:
    """Return what Slack says was chosen: an option by value or text, or a date, person, channel as given."""
    singles = {
        "users_select": "selected_user",
        "channels_select": "selected_channel",
        "conversations_select": "selected_conversation",
        "datepicker": "selected_date",
        "timepicker": "selected_time",
    }
    if kind in singles:
        return {singles[kind]: value}
    if kind == "datetimepicker":
        return {"selected_date_time": int(value)}
    options = list(
        raw.get("options") or [option for group in raw.get("option_groups") or [] for option in group["options"]]
    )
    wanted = value.split(",") if kind.startswith("multi_") or kind == "checkboxes" else [value]
    if kind.endswith("external_select"):
        options += [{"text": {"type": "plain_text", "text": one}, "value": one} for one in wanted]
    chosen = [option for option in options if option["value"] in wanted or option["text"]["text"] in wanted]
    if kind.startswith("multi_") or kind == "checkboxes":
        return {"selected_options": chosen}
    if not chosen:
        raise LookupError(f"there is no option {value!r}; there are {', '.join(option['value'] for option in options)}")
    return {"selected_option": chosen[0]}


def entered(element: Json, given: str | None) -> Json:
    """Return an input element's entry of a view's state; without a value, what the element began with."""
    kind = str(element["type"])
    if kind.endswith("_input"):
        return {"type": kind, "value": given if given is not None else element.get("initial_value")}
    if given is None:
        initial = {
            name.replace("initial_", "selected_", 1): value
            for name, value in element.items()
            if name.startswith("initial_")
        }
        empty: Json = (
            {"selected_options": []} if kind.startswith("multi_") or kind == "checkboxes" else {"selected_option": None}
        )
        return {"type": kind, **(initial or empty)}
    return {"type": kind, **selection(kind, element, given)}

"""Scheduled tasks of a sandbox host, and schtasks.exe.

As much of Task Scheduler as octocert and Tentacle use: registration by XML, one time trigger with repetition and end,
one action. A repetition is shortened by the world's pace, start and end boundaries are not.
"""

import re
import threading
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from bot.sandbox.windows.host import Host

_NAMESPACE = "{http://schemas.microsoft.com/windows/2004/02/mit/task}"
WATCHDOG = "Octopus Watchdog Tentacle"
"""Name of the task that Tentacle's watchdog command registers (OctopusTentacle: Watchdog.cs)."""


class TaskError(Exception):
    """Task Scheduler refused; the text is what schtasks.exe prints after `ERROR: `."""


@dataclass(slots=True, kw_only=True)
class ScheduledTask:
    """One registered task."""

    name: str
    xml: str
    command: str
    arguments: str
    start: datetime
    interval: timedelta | None = None
    duration: timedelta | None = None
    end: datetime | None = None
    delete_expired: bool = False
    enabled: bool = True
    user: str = ""
    runs: int = 0
    last_result: int | None = None

    def next_run(self, now: datetime, pace: float) -> datetime | None:
        """Return when it runs next, at `now` or later; None when it never will again."""
        step = self.interval * min(1.0, pace) if self.interval else None
        when = self.start
        if when < now:
            if not step:
                return None
            when += step * -((self.start - now) // step)
        last = self.end
        if self.duration is not None:
            last = min(last or self.start + self.duration, self.start + self.duration)
        return None if last is not None and when > last else when


class Schedule:
    """The tasks of one host, by name; names ignore case."""

    def __init__(self, host: "Host") -> None:
        self._host = host
        self._tasks: dict[str, ScheduledTask] = {}
        self._threads: list[threading.Thread] = []
        self._closed = False

    @property
    def tasks(self) -> tuple[ScheduledTask, ...]:
        """All registered tasks."""
        with self._host.world.lock:
            return tuple(self._tasks.values())

    def find(self, name: str) -> ScheduledTask | None:
        """Return a task by its name."""
        with self._host.world.lock:
            return self._tasks.get(_key(name))

    def create(self, name: str, xml: str, *, replace: bool = False) -> ScheduledTask:
        """Register a task from its XML; TaskError if the XML is wrong or the name is taken."""
        task = parse(name.lstrip("\\"), xml)
        world = self._host.world
        with world.changed:
            if _key(name) in self._tasks and not replace:
                raise TaskError("Cannot create a file when that file already exists.")
            self._tasks[_key(name)] = task
            file = self._file(task)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(xml, encoding="utf-16")
            world.record(self._host.name, "task-created", task.name)
            self._plan(task)
            world.changed.notify_all()
        return task

    def create_watchdog(self, instances: str = "*", minutes: int = 5) -> ScheduledTask:
        """Register the Tentacle watchdog, as `watchdog --create` does."""
        return self.create(WATCHDOG, watchdog_xml(self._host, instances, minutes), replace=True)

    def delete(self, name: str) -> None:
        """Remove a task; TaskError if there is none."""
        world = self._host.world
        with world.changed:
            task = self._tasks.pop(_key(name), None)
            if task is None:
                raise TaskError("The system cannot find the file specified.")
            self._file(task).unlink(missing_ok=True)
            world.record(self._host.name, "task-deleted", task.name)
            world.changed.notify_all()

    def start(self, task: ScheduledTask) -> None:
        """Run a task's action now, on a thread of its own."""
        if not self._closed:
            self._threads = [t for t in self._threads if t.is_alive()]
            thread = threading.Thread(target=self._run, args=(task,), name=f"task-{task.name}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def close(self) -> None:
        """Run nothing any more and wait for what runs."""
        self._closed = True
        for thread in self._threads:
            thread.join(5)

    def run_program(self, arguments: list[str], folder: Path) -> tuple[int, str, str]:
        """Run schtasks.exe and return exit code, standard output and standard error."""
        options = _options(arguments)
        name = options.get("tn", "")
        try:
            if "create" in options:
                if "xml" not in options or not name:
                    return 1, "", "ERROR: Invalid syntax. The sandbox registers tasks by /XML only.\n"
                self.create(name, _read_xml(folder / options["xml"]), replace="f" in options)
                return 0, f'SUCCESS: The scheduled task "{name}" has successfully been created.\n', ""
            if "delete" in options:
                if "f" not in options:
                    return 1, f'WARNING: Are you sure you want to remove the task "{name}" (Y/N)? ', ""
                self.delete(name)
                return 0, f'SUCCESS: The scheduled task "{name}" was successfully deleted.\n', ""
            if "run" in options:
                self.start(self._demand(name))
                return 0, f'SUCCESS: Attempted to run the scheduled task "{name}".\n', ""
            if "query" in options or not arguments:
                return 0, self._query(options), ""
        except TaskError as error:
            return 1, "", f"ERROR: {error}\n"
        return 1, "", 'ERROR: Invalid syntax.\nType "SCHTASKS /?" for usage.\n'

    def _demand(self, name: str) -> ScheduledTask:
        task = self.find(name)
        if task is None:
            raise TaskError("The system cannot find the file specified.")
        return task

    def _file(self, task: ScheduledTask) -> Path:
        return self._host.system32 / "Tasks" / task.name

    def _plan(self, task: ScheduledTask, after: datetime | None = None) -> None:
        """Set the timer for the next run, or for the end of a task that goes away then."""
        world = self._host.world
        now = self._host.now()
        when = task.next_run(max(now, after) if after else now, world.pace) if task.enabled else None
        if when is not None:
            world.timers.after(max(0.0, (when - now).total_seconds()), lambda: self._fire(task, when))
        elif task.delete_expired and task.end:
            world.timers.after(max(0.0, (task.end - now).total_seconds()), lambda: self._expire(task))

    def _fire(self, task: ScheduledTask, when: datetime) -> None:
        with self._host.world.lock:
            if self._tasks.get(_key(task.name)) is not task or self._closed:
                return
            self._plan(task, when + timedelta(milliseconds=1))
        self.start(task)

    def _expire(self, task: ScheduledTask) -> None:
        with self._host.world.lock:
            if self._tasks.get(_key(task.name)) is task:
                self.delete(task.name)

    def _run(self, task: ScheduledTask) -> None:
        world = self._host.world
        world.record(self._host.name, "task-run", task.name)
        argv = [_basename(task.command), *split(task.arguments)]
        if argv[0].lower() in {"cmd", "cmd.exe"} and len(argv) > 2 and argv[1].lower() == "/c":
            argv = split(" ".join(argv[2:])) if len(argv) == 3 else argv[2:]
        code = self._host.run_program(argv).exit_code
        with world.changed:
            task.runs += 1
            task.last_result = code
            world.changed.notify_all()

    def _query(self, options: dict[str, str]) -> str:
        tasks = (self._demand(options["tn"]),) if options.get("tn") else self.tasks
        if "xml" in options:
            return "".join(t.xml + "\n" for t in tasks)
        rows = [(f"\\{t.name}", self._shown(t), "Ready" if t.enabled else "Disabled") for t in tasks]
        shape = options.get("fo", "table").lower()
        headed = "nh" not in options
        if shape == "csv":
            head = [("TaskName", "Next Run Time", "Status")] if headed else []
            return "".join(",".join(f'"{c}"' for c in row) + "\n" for row in [*head, *rows])
        if shape == "list":
            computer = self._host.name.upper()
            return "".join(
                f"\nFolder: \\\nHostName:      {computer}\nTaskName:      {name}\nNext Run Time: {when}\n"
                f"Status:        {status}\nLogon Mode:    Interactive/Background\n"
                for name, when, status in rows
            )
        text = "\nFolder: \\\n"
        if headed:
            text += f"{'TaskName':40} {'Next Run Time':22} {'Status':15}\n{'=' * 40} {'=' * 22} {'=' * 15}\n"
        return text + "".join(f"{name[1:]:40.40} {when:22} {status:15}\n" for name, when, status in rows)

    def _shown(self, task: ScheduledTask) -> str:
        when = task.next_run(self._host.now(), self._host.world.pace)
        return f"{when:%m/%d/%Y} {when.hour % 12 or 12}{when:%M:%S %p}" if when else "N/A"


def parse(name: str, xml: str) -> ScheduledTask:
    """Read a task's XML; TaskError as Task Scheduler words it."""
    try:
        root = ET.fromstring(_undeclared(xml))  # noqa: S314  # the sandbox and our own script wrote it
    except ET.ParseError as error:
        line, column = error.position
        raise TaskError(f"The task XML is malformed.\n({line},{column}):") from error
    text = {e.tag.removeprefix(_NAMESPACE): (e.text or "").strip() for e in root.iter()}
    if not text.get("Command"):
        raise TaskError("The task XML is missing a required element or attribute.\n(1,1):Command:")
    if "DeleteExpiredTaskAfter" in text and not text.get("EndBoundary"):
        raise TaskError("The task XML is missing a required element or attribute.\n(1,1):EndBoundary:")
    if not text.get("StartBoundary"):
        raise TaskError("The task XML is missing a required element or attribute.\n(1,1):StartBoundary:")
    return ScheduledTask(
        name=name,
        xml=xml,
        command=text["Command"],
        arguments=text.get("Arguments", ""),
        start=_boundary(text["StartBoundary"]),
        interval=_span(text["Interval"]) if text.get("Interval") else None,
        duration=_span(text["Duration"]) if text.get("Duration") else None,
        end=_boundary(text["EndBoundary"]) if text.get("EndBoundary") else None,
        delete_expired="DeleteExpiredTaskAfter" in text,
        user=text.get("UserId", ""),
    )


def watchdog_xml(host: "Host", instances: str, minutes: int) -> str:
    """Return the watchdog's task: SYSTEM, from now on every so many minutes, without an end."""
    first = host.now() + timedelta(minutes=min(1.0, host.world.pace))
    return (
        '<?xml version="1.0" encoding="UTF-16"?>\n'
        f'<Task version="1.2" xmlns="{_NAMESPACE[1:-1]}">\n  <Triggers>\n    <TimeTrigger>\n'
        f"      <Repetition><Interval>PT{minutes}M</Interval></Repetition>\n"
        f"      <StartBoundary>{first:%Y-%m-%dT%H:%M:%S}Z</StartBoundary>\n"
        "    </TimeTrigger>\n  </Triggers>\n"
        '  <Principals><Principal id="Author"><UserId>S-1-5-18</UserId></Principal></Principals>\n'
        f'  <Actions Context="Author"><Exec><Command>{escape(str(host.tentacle_exe))}</Command>'
        f"<Arguments>checkservices --instances {escape(instances)}</Arguments></Exec></Actions>\n</Task>\n"
    )


_PIECE = re.compile(r'\\"|"|\s+|[^\s"\\]+|\\')
"""What a command line is made of: an escaped quote, a quote, space, plain text, a backslash."""


def split(line: str) -> list[str]:
    """Split a command line as Windows programs do (the rules of CommandLineToArgvW that matter here)."""
    words: list[str] = []
    word: list[str] = []
    quoted = begun = False
    for piece in _PIECE.findall(line):
        if piece == '"':
            quoted, begun = not quoted, True
        elif piece.isspace() and not quoted:
            if begun:
                words.append("".join(word))
            word, begun = [], False
        else:
            word.append('"' if piece == '\\"' else piece)
            begun = True
    return [*words, "".join(word)] if begun else words


def _options(arguments: list[str]) -> dict[str, str]:
    """Return schtasks' options in small letters, with the value that follows each."""
    options: dict[str, str] = {}
    last = ""
    for argument in arguments:
        name = argument[1:].lower()
        if argument[:1] in {"/", "-"} and name in {
            "create",
            "delete",
            "query",
            "run",
            "tn",
            "xml",
            "f",
            "fo",
            "nh",
            "v",
            "hresult",
        }:
            options[last := name] = ""
        elif last:
            options[last] = argument
    return options


def _read_xml(file: Path) -> str:
    try:
        data = file.read_bytes()
    except OSError as error:
        raise TaskError("The system cannot find the file specified.") from error
    return data.decode("utf-16" if data[:2] in {b"\xff\xfe", b"\xfe\xff"} else "utf-8-sig")


def _undeclared(xml: str) -> bytes:
    """Return the XML without its declaration, whose encoding no longer holds once it is text."""
    text = xml.lstrip("\ufeff").lstrip()
    return (text.partition("?>")[2] if text.startswith("<?xml") else text).encode("utf-8")


def _boundary(text: str) -> datetime:
    """Read a boundary; without a zone it is the host's local time, which is UTC here."""
    when = datetime.fromisoformat(text)
    return when if when.tzinfo else when.replace(tzinfo=UTC)


def _span(text: str) -> timedelta:
    """Read a duration such as PT1M or P1DT2H."""
    days, _, rest = text.removeprefix("P").partition("T")
    seconds = 86400 * int(days.removesuffix("D")) if days else 0
    number = ""
    for character in rest:
        if character.isdigit():
            number += character
        else:
            seconds += int(number) * {"H": 3600, "M": 60, "S": 1}[character]
            number = ""
    return timedelta(seconds=seconds)


def _basename(command: str) -> str:
    return command.strip('"').replace("\\", "/").rpartition("/")[2]


def _key(name: str) -> str:
    return name.lstrip("\\").lower()

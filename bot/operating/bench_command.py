"""The command `octocert bench`. Heavy modules are imported when it runs."""

import json

import click

EXIT_OK, EXIT_FAILED = 0, 1


@click.command(short_help="Measure a fleet rotation in the sandbox, beside its peers.")
@click.option("--hosts", type=click.IntRange(1, 5000), default=10, show_default=True, metavar="N", help="Targets.")
@click.option(
    "--in-flight",
    type=click.IntRange(1, 512),
    default=8,
    show_default=True,
    metavar="M",
    help="Targets that are visited at the same time.",
)
@click.option(
    "--remote-seconds",
    type=click.FloatRange(0.05, 600),
    default=2.0,
    show_default=True,
    metavar="S",
    help="What a service takes to stop and to start, together.",
)
@click.option(
    "--peers",
    type=click.Choice(["none", "script", "all"]),
    default="none",
    show_default=True,
    help="Who does the same on the same hosts: nobody, the script of an afternoon, or Ansible as well.",
)
@click.option("--rate-limit", type=click.IntRange(0), default=0, metavar="N", help="Octopus's requests a minute.")
@click.option("--latencies", is_flag=True, help="Measure acknowledgements: idle, at 50 commands a second, at work.")
@click.option("--json", "as_json", is_flag=True, help="End with one line of JSON.")
def bench(
    hosts: int,
    in_flight: int,
    remote_seconds: float,
    peers: str,
    rate_limit: int,
    latencies: bool,
    as_json: bool,
) -> int:
    """Rotate a fleet in the sandbox and tell per target: wall against the ideal, processor, requests, memory.

    Bot, peers and sandbox are processes of their own on this machine, one after the other. What the figures mean, and
    those of the authors, stand in docs/benchmarks.md.
    """
    from bot.operating import bench as benchmark  # noqa: PLC0415 -- heavy: not for --help

    shape = benchmark.Shape(hosts=hosts, in_flight=in_flight, remote_seconds=remote_seconds, rate_limit=rate_limit)
    found: dict[str, dict[str, float]] = {}
    wanted = {"none": (), "script": ("script",), "all": ("script", "ansible")}[peers]
    try:
        for name in ("octocert", *wanted):
            if name != "octocert" and (why := benchmark.missing(name)):
                click.echo(why, err=True)
                continue
            result = (
                benchmark.octocert(shape, latencies=latencies) if name == "octocert" else benchmark.peer(name, shape)
            )
            found[name] = result.short()
            figures = ", ".join(f"{k} {v}" for k, v in result.short().items())
            click.echo(f"{name:<9} {result.wall:7.1f} s (ideal {shape.ideal:.1f} s)  {figures}", err=as_json)
            for key, value in result.more.items():
                shown = f"{value:.3f}" if isinstance(value, float) else value
                click.echo(f"          {key}: {shown}", err=as_json)
    except RuntimeError as error:
        click.echo(f"octocert: the benchmark failed: {error}", err=True)
        return EXIT_FAILED
    if as_json:
        click.echo(json.dumps(found))
    return EXIT_OK

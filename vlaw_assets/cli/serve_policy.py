"""`vlaw serve-policy`: a trained policy that a robot can ask, over openpi's websocket protocol."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vlaw_assets.cli.output import console, existing_lake, known_experiment
from vlaw_models.errors import VlawError


def serve_policy(
    experiment: Annotated[str, typer.Argument(help="Name of a recipe.")],
    iteration: Annotated[
        int, typer.Argument(min=0, help="Whose policy; 0: the base policy that the experiment starts from.")
    ],
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0: any free one.")] = 8000,
    host: Annotated[str, typer.Option(help="Address to listen on; others than this machine's need token and TLS.")] = (
        "127.0.0.1"
    ),
    *,
    record: Annotated[bool, typer.Option("--record", help="Keep every request and answer with the session.")] = False,
    token_file: Annotated[
        Path | None, typer.Option("--token-file", help="File with the token that clients give as api_key.")
    ] = None,
    tls_cert: Annotated[Path | None, typer.Option("--tls-cert", help="Certificate (PEM), for wss://.")] = None,
    tls_key: Annotated[Path | None, typer.Option("--tls-key", help="Its key (PEM).")] = None,
    time_limit: Annotated[float, typer.Option("--time-limit", help="Seconds in which a request is answered.")] = 10.0,
    idle_limit: Annotated[
        float, typer.Option("--idle-limit", help="Seconds after which a client that asks nothing is sent away.")
    ] = 3600.0,
    clients: Annotated[int, typer.Option(min=1, help="Most clients at a time.")] = 128,
    batch: Annotated[int, typer.Option(min=1, help="Most requests that share a forward pass.")] = 16,
    noise_scale: Annotated[
        float | None,
        typer.Option("--noise-scale", min=0.0, help="Of the policy's noise; default: as in rollouts."),
    ] = None,
    noise_seed: Annotated[
        int, typer.Option("--noise-seed", min=0, help="From which the noise of each request follows.")
    ] = 0,
    image_size: Annotated[
        str,
        typer.Option("--image-size", help="Pictures are resized to HEIGHTxWIDTH; default: the robot's."),
    ] = "",
    despite_quarantine: Annotated[
        bool, typer.Option("--despite-quarantine", help="Also a policy that learned from episodes in quarantine.")
    ] = False,
) -> None:
    """Answer a robot's observations with action chunks: openpi's client speaks to it unchanged.

    The session (which policy, how often it was asked) is kept in the lake; its id goes to every client.
    """
    from vlaw_assets.serving.limits import Limits, bind, message_bytes, open_door

    size, recipe = _size(image_size), known_experiment(experiment)
    door = open_door(token_file, tls_cert, tls_key)
    lake = existing_lake()
    with bind(host, port, door) as bound:
        from vlaw_assets.serving.running import Asking, serve
        from vlaw_assets.serving.served import find_policy, load
        from vlaw_models.robots.registry import find_robot

        limits = Limits(time_limit, idle_limit, clients, batch, message_bytes(len(find_robot(recipe.robot).cameras)))
        ref = find_policy(lake, recipe, iteration, despite_quarantine=despite_quarantine)
        served = load(lake, recipe, ref, size)
        scale = recipe.rollouts.noise_scale if noise_scale is None else noise_scale

        def tell(line: str) -> None:
            console.print(line, markup=False, soft_wrap=True)

        session = serve(
            lake,
            served,
            Asking(experiment, iteration, scale, noise_seed, record),
            bound,
            limits=limits,
            door=door,
            tell=tell,
            ready=lambda session, _stop: tell(
                f"{session.address}  {ref.name} {ref.content_digest[:12]} for robot {session.robot}, "
                f"session {session.id}"
            ),
        )
    counts, times = session.counts, session.latency_ms
    took = "; a chunk took p50 {p50:.1f} ms, p95 {p95:.1f} ms, at most {max:.1f} ms".format(**times) if times else ""
    tell(
        f"session {session.id} {session.end}: {counts.connections} clients, {counts.answered} of {counts.requests} "
        f"requests answered, {counts.refused} refused, {counts.late} late{took}"
    )


def _size(text: str) -> tuple[int, int] | None:
    if not text:
        return None
    height, cross, width = text.partition("x")
    if not (cross and height.isdecimal() and width.isdecimal()):
        raise VlawError(f"{text!r} is no size", where="--image-size", remedy="Give HEIGHTxWIDTH, such as 192x320.")
    return int(height), int(width)

"""What locust loads: the users, the shape, the options, and what happens around a test.

python -m locust -f loadtest/locustfile.py --headless --host URL --users 16 --run-time 60s
"""

import signal
import sys
import time
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

import gevent
from locust import LoadTestShape, events
from locust.env import Environment
from locust.runners import WorkerRunner

from loadtest.classify import ClassifyUser
from loadtest.derived import AttentionUser, RerankUser, ScoreUser, SimilarityUser
from loadtest.embed import EmbedUser
from loadtest.fill_mask import FillMaskUser
from loadtest.measurements import Measurements
from loadtest.next_sentence import NextSentenceUser
from loadtest.preflight import NoServer, find_tasks
from loadtest.question_answering import QuestionAnsweringUser
from loadtest.report import Report
from loadtest.shapes import SHAPES, Plan, find_users
from loadtest.texts import MIXES
from loadtest.token_classify import TokenClassifyUser
from loadtest.verdict import Bound, WrongBound, judge, parse_bound, read_bounds

USERS = (
    EmbedUser,
    FillMaskUser,
    NextSentenceUser,
    ClassifyUser,
    TokenClassifyUser,
    QuestionAnsweringUser,
    RerankUser,
    SimilarityUser,
    ScoreUser,
    AttentionUser,
)
TASKS = tuple(user.name for user in USERS)
_KEY = "cloze"
_DEFAULT_RUN_TIME_S = 60.0


class Shape(LoadTestShape):
    """The shape that --shape names, over --users and --run-time."""

    use_common_options = True

    def tick(self) -> tuple[int, float] | None:
        """The users there shall be now."""
        runner: Any = self.runner
        options = runner.environment.parsed_options
        duration_s = float(options.run_time or _DEFAULT_RUN_TIME_S)
        plan = Plan(options.num_users or 1, duration_s, options.step_time)
        users = find_users(options.shape, plan, time.perf_counter() - self.start_time)
        return None if users is None else (users, float(max(users, 100)))


def add_options(parser: ArgumentParser) -> None:
    """The options of this file, beside locust's own."""
    group = parser.add_argument_group("Cloze")
    group.add_argument("--mix", choices=list(MIXES), default="real", help="lengths of the texts")
    for user in USERS:
        group.add_argument(
            f"--{user.name}",
            type=int,
            default=user.share,
            help=f"weight of its users ({user.share})",
        )
    group.add_argument("--batch", type=int, default=1, help="items a request (1)")
    group.add_argument("--think", type=float, default=0.0, help="seconds between requests (0)")
    group.add_argument("--model", default="", help="the model to ask; default: the server's")
    group.add_argument("--key", default="", env_var="LOADTEST_KEY", help="API key to send")
    group.add_argument("--seed", default="1", help="of the texts")
    group.add_argument("--shape", choices=list(SHAPES), default="constant", help="of the load")
    group.add_argument(
        "--step-time", type=float, default=15.0, help="seconds a step holds, for --shape steps"
    )
    group.add_argument(
        "--slo", action="append", default=[], help="a bound, like embed.p95_ms=200; repeatable"
    )
    group.add_argument("--slo-file", default="", help="bounds in TOML, like loadtest/slo.toml")
    group.add_argument("--report", default="", help="folder for report.json, report.md and plots")


def set_up(environment: Environment, **_: Any) -> None:
    """One object holds what is measured; the master's is the whole."""
    options = environment.parsed_options
    if options is None:
        return
    for user in USERS:
        user.weight = getattr(options, user.name.replace("-", "_"))
    try:
        bounds = _find_bounds(options)
    except WrongBound as wrong:
        sys.stderr.write(f"error: {wrong}\n")
        sys.exit(2)
    measurements = Measurements()
    listeners: Any = environment.events
    _listen(environment, measurements)
    if isinstance(environment.runner, WorkerRunner):
        return
    if options.headless and environment.host:
        _look(environment.host, options.key)
    gevent.spawn(_count_users, environment, measurements)
    if options.headless:
        # Locust listens for it only once a shape is over: a container that is stopped would leave
        # no report. When it is over the verdict is written, whoever wants it to end: compose does
        # as soon as the first worker has gone.
        gevent.signal_handler(signal.SIGTERM, _interrupt)
        listeners.test_stop.add_listener(_end_undisturbed)

    def finish(environment: Environment, **_: Any) -> None:
        report = Report(_describe(environment), measurements, judge(measurements, bounds))
        sys.stderr.write(f"\n{report.tell()}\n")
        if options.report:
            report.write(Path(options.report))
        environment.process_exit_code = 0 if report.passed else 1

    listeners.quitting.add_listener(finish)


def _look(host: str, key: str) -> None:
    """Ask for nothing that the server does not have; end where there is no server."""
    wanted = [user for user in USERS if user.weight]
    try:
        answered = find_tasks(host, key, [user.name for user in wanted])
    except NoServer as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)
    left_out = [user for user in wanted if user.name not in answered]
    if left_out and len(left_out) < len(wanted):
        for user in left_out:
            user.weight = 0
        names = ", ".join(user.name for user in left_out)
        sys.stderr.write(f"not asked, since no model there answers it: {names}\n")


def _listen(environment: Environment, measurements: Measurements) -> None:
    def add(
        name: str, response_time: float, response: Any, exception: Any, start_time: float, **_: Any
    ) -> None:
        headers = getattr(response, "headers", None) or {}
        ended_s = start_time + response_time / 1000
        failure = str(exception) if exception else None
        measurements.add(name, response_time, headers.get("server-timing"), failure, ended_s)

    def send(client_id: str, data: dict[str, Any], **_: Any) -> None:
        data[_KEY] = measurements.take()

    def receive(client_id: str, data: dict[str, Any], **_: Any) -> None:
        measurements.receive(data.get(_KEY, Measurements().take()))

    def begin(**_: Any) -> None:
        measurements.clear()

    listeners: Any = environment.events
    listeners.request.add_listener(add)
    listeners.report_to_master.add_listener(send)
    listeners.worker_report.add_listener(receive)
    listeners.test_start.add_listener(begin)


def _interrupt() -> None:
    raise KeyboardInterrupt


def _end_undisturbed(**_: Any) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _count_users(environment: Environment, measurements: Measurements) -> None:
    while True:
        if environment.runner is not None and environment.runner.state in ("running", "spawning"):
            measurements.users[int(time.time())] = environment.runner.user_count
        gevent.sleep(0.5)


def _find_bounds(options: Any) -> list[Bound]:
    bounds = read_bounds(Path(options.slo_file), TASKS) if options.slo_file else []
    return bounds + [parse_bound(text, TASKS) for text in options.slo]


def _describe(environment: Environment) -> dict[str, Any]:
    options: Any = environment.parsed_options
    names = ("shape", "mix", "batch", "think", "seed")
    about = {name: getattr(options, name) for name in names}
    weights = ", ".join(f"{user.name} {user.weight}" for user in USERS if user.weight)
    return {"host": environment.host, "users": options.num_users, "weights": weights, **about}


_events: Any = events
_events.init_command_line_parser.add_listener(add_options)
_events.init.add_listener(set_up)

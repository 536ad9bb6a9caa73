"""How long an answer would take from now, as the last answers took: who cannot be answered in time is told so at once.

An engine that batches takes longer for a step the more it does in it, nearly in proportion, so two straight lines are kept,
fitted to what happened lately: seconds to the first token by the prompt tokens that are to be read by then, and seconds a
further token by the answers that run.  To refuse by the number of those who wait instead would let each of them wait for
what is of no use to anybody by the time that it comes.

How long an answer will be nobody knows: it is taken to be as short as the shorter ones that its tenant had within a minute,
and where there were none to end with its first token, so that nobody is refused for what others ask, or asked long ago.

Invariants: nobody is refused who states no deadline, nor by an engine that has nothing to do, however wrong the forecast is;
what nobody waits for, and the engine does last, tells nothing of how long others wait.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass

from services.chassis.errors import Failure, Reason

# Who has less time left than so many times what the answer is expected to take is refused: those who come later slow it down.
MARGIN = 1.25
# What an observation weighs beside the one after it: some fifty of them count.
_KEPT = 0.98
# How far apart, of their mean, observations must lie to tell a slope.  Of what lies closer it would be of chance.
_SPREAD = 0.25
# Seconds after which a running answer's pace is taken, so that of long ones it is known before they end.
_PACE_SECONDS = 0.5
_LEAST_RETRY_SECONDS = 0.5
# Answers of a tenant whose lengths are kept, for how long, and which part of them is shorter than what is expected.
_KEPT_LENGTHS = 64
_LENGTH_SECONDS = 60.0
_SHORTER = 0.2
_KEPT_TENANTS = 1024


class Line:
    """A straight line through what was seen lately, least squares with forgetting; it never falls."""

    def __init__(self) -> None:
        self._weight = self._x = self._y = self._xx = self._xy = 0.0

    def add(self, x: float, y: float) -> None:
        """One more observation."""
        self._weight = _KEPT * self._weight + 1.0
        self._x = _KEPT * self._x + x
        self._y = _KEPT * self._y + y
        self._xx = _KEPT * self._xx + x * x
        self._xy = _KEPT * self._xy + x * y

    def at(self, x: float) -> float:
        """The height there, at least 0; 0 before the first observation."""
        if not self._weight:
            return 0.0
        mean_x, mean_y = self._x / self._weight, self._y / self._weight
        spread = max(0.0, self._xx / self._weight - mean_x**2) + (_SPREAD * mean_x) ** 2
        slope = max(0.0, (self._xy / self._weight - mean_x * mean_y) / spread) if spread else 0.0
        return max(0.0, mean_y + slope * (x - mean_x))


class Mean:
    """The mean of what was seen lately."""

    def __init__(self) -> None:
        self._weight = self._sum = 0.0

    def add(self, value: float) -> None:
        """One more observation."""
        self._weight = _KEPT * self._weight + 1.0
        self._sum = _KEPT * self._sum + value

    @property
    def value(self) -> float:
        """0 before the first observation."""
        return self._sum / self._weight if self._weight else 0.0


class Lengths:
    """How many tokens each tenant's last answers had."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._now = clock
        self._latest: OrderedDict[str, deque[tuple[float, float]]] = OrderedDict()

    def add(self, tenant: str, tokens: float) -> None:
        """One more answer."""
        latest = self._latest.setdefault(tenant, deque(maxlen=_KEPT_LENGTHS))
        self._latest.move_to_end(tenant)
        latest.append((self._now(), tokens))
        if len(self._latest) > _KEPT_TENANTS:
            self._latest.popitem(last=False)

    def expected(self, tenant: str) -> float:
        """Tokens of its next one."""
        since = self._now() - _LENGTH_SECONDS
        lately = sorted(tokens for at, tokens in self._latest.get(tenant, ()) if at >= since)
        return lately[int(_SHORTER * len(lately))] if lately else 1.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked of an engine: ``answers`` of at most ``max_tokens`` each to a prompt, by ``deadline``.

    The deadline is on the monotonic clock, in seconds; None where nobody states one.  ``weight`` is that of the tenant
    beside the others who wait.
    """

    prompt_tokens: int = 0
    answers: int = 1
    max_tokens: int = 1
    deadline: float | None = None
    weight: int = 1


@dataclass(eq=False, slots=True)
class Course:
    """One request that runs, as the forecast follows it."""

    wanted: Wanted
    tenant: str
    # Whether it tells how long others wait: not what nobody waits for, nor the loading of a version, which has no prompt.
    tells: bool
    # Prompt tokens that were to be read when it began, its own with them.
    unread: int
    began: float
    # When it was looked at last, and the tokens that came since.
    since: float
    tokens: int = 0
    made: int = 0
    spoke: bool = False


class Forecast:
    """One engine's; ``clock`` is monotonic, in seconds, and ``places`` run at once."""

    def __init__(self, clock: Callable[[], float], places: int) -> None:
        self._now = clock
        self._places = places
        self._first = Line()
        self._step = Line()
        self._lengths = Lengths(clock)
        # Seconds for which a request holds its place.
        self._held = Mean()
        self.running = 0
        self._unread = 0
        # Those whose first token is still to come, the one that has waited longest first.
        self._silent: dict[Course, None] = {}

    def begin(self, wanted: Wanted, tenant: str = "", *, background: bool = False) -> Course:
        """A request was given its place; in the ``background`` nobody waits for it."""
        self.running += wanted.answers
        tells = not background and wanted.prompt_tokens > 0
        if tells:
            self._unread += wanted.prompt_tokens
        now = self._now()
        course = Course(wanted, tenant, tells, self._unread, now, now)
        if tells:
            self._silent[course] = None
        return course

    def heard(self, course: Course, tokens: int) -> None:
        """The engine said something: its tokens, of all answers."""
        if not course.tells:
            return
        now = self._now()
        if not course.spoke:
            course.spoke = True
            self._unread -= course.wanted.prompt_tokens
            del self._silent[course]
            self._first.add(course.unread, now - course.began)
            course.since, course.made = now, tokens
            return
        course.tokens += tokens
        course.made += tokens
        if now - course.since >= _PACE_SECONDS:
            self._pace(course, now)

    def end(self, course: Course, *, whole: bool = True) -> None:
        """It gives its place back; not ``whole`` where it was given up before its end."""
        self.running -= course.wanted.answers
        if not course.tells:
            return
        now = self._now()
        if course.spoke:
            self._pace(course, now)
            self._lengths.add(course.tenant, self._length(course, whole))
            self._held.add(now - course.began)
        else:
            self._unread -= course.wanted.prompt_tokens
            del self._silent[course]
            # Given up before its first token: it would have taken longer.  What hardly waited says nothing.
            waited = now - course.began
            if waited > self._first.at(course.unread):
                self._first.add(course.unread, waited)

    def require_in_time(self, wanted: Wanted, ahead: int, tenant: str = "") -> None:
        """Refuse what would come too late; ``ahead`` wait and go before.  Raises TOO_BUSY_FOR_DEADLINE."""
        if wanted.deadline is None or not (self.running or ahead):
            return
        left = wanted.deadline - self._now()
        expected = MARGIN * self.seconds(wanted, ahead, tenant)
        # Whose deadline has passed is told that, by whoever keeps it.
        if 0.0 < left < expected:
            retry = max(_LEAST_RETRY_SECONDS, expected - left)
            raise Failure(
                Reason.TOO_BUSY_FOR_DEADLINE,
                retry_after_seconds=retry,
                expected=f"{expected:.2g}",
                left=f"{left:.2g}",
            )

    def seconds(self, wanted: Wanted, ahead: int, tenant: str = "") -> float:
        """How long it would take until the last token, as things stand."""
        full = self.running >= self._places
        waits = (ahead + 1) / self._places * self._held.value if ahead or full else 0.0
        further = min(wanted.max_tokens, self._lengths.expected(tenant)) - 1
        first = max(self._first.at(self._unread + wanted.prompt_tokens), self._longest_silence())
        return waits + first + max(0, further) * self._step.at(self.running + wanted.answers)

    def _longest_silence(self) -> float:
        """Who comes now is read after those who are silent still, so that it hardly takes less."""
        longest = next(iter(self._silent), None)
        return 0.0 if longest is None else self._now() - longest.began

    def _length(self, course: Course, whole: bool) -> float:
        """Tokens of its answer; of one that was given up one more than it had, and no fewer than were expected.

        It was longer than where it was cut.  Counted as that short, answers that all come too late would make the next ones
        seem short, which lets in more of them.
        """
        made = course.made / course.wanted.answers
        return made if whole else max(made + 1, self._lengths.expected(course.tenant))

    def _pace(self, course: Course, now: float) -> None:
        """Take what its last tokens took, an answer."""
        if course.tokens:
            self._step.add(self.running, (now - course.since) * course.wanted.answers / course.tokens)
        course.since, course.tokens = now, 0

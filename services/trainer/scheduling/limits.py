"""What a tenant may have at once: jobs, bytes in memory, tokens an hour.

Invariant: no start is planned that takes a tenant over a limit, and none is carried out that another trainer's has taken
there meanwhile (`allows`); what is stopping counts until it has left.
"""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime

from services.trainer.scheduling.room import gib
from services.trainer.scheduling.state import Job, Needs, Phase, Quota, State
from services.trainer.scheduling.usage import window_end, window_tokens


def tokens_left(state: State, tenant: str, now: float) -> int | None:
    """Tokens that the tenant may still train in this window of the clock; None without a limit."""
    it = state.tenant(tenant)
    if it.quota.window_tokens is None:
        return None
    spent = window_tokens(it.trained.tokens, it.trained.as_of, now, state.policy.window_seconds)
    return max(0, it.quota.window_tokens - spent)


def spent(state: State, tenant: str, now: float) -> bool:
    """Whether the tenant must train nothing more in this window."""
    return tokens_left(state, tenant, now) == 0


class Limits:
    """What tenants hold, kept up as a plan is made."""

    def __init__(self, state: State, now: float) -> None:
        self._state = state
        self._now = now
        resident = [job for job in state.jobs if job.resident]
        self._jobs = Counter(job.tenant for job in resident)
        self._bytes: Counter[str] = Counter()
        self._leaving_jobs = Counter(job.tenant for job in resident if job.phase is Phase.STOPPING)
        self._leaving_bytes: Counter[str] = Counter()
        self._promised_bytes: Counter[str] = Counter()
        for job in resident:
            self._bytes[job.tenant] += held_bytes(job)
            if job.phase is Phase.STOPPING:
                self._leaving_bytes[job.tenant] += held_bytes(job)

    def start(self, job: Job) -> None:
        """Count a job that starts."""
        self._jobs[job.tenant] += 1
        self._bytes[job.tenant] += held_bytes(job)

    def stop(self, job: Job) -> None:
        """Count a job that is told to stop."""
        self._leaving_jobs[job.tenant] += 1
        self._leaving_bytes[job.tenant] += held_bytes(job)

    def promise(self, job: Job) -> None:
        """Count a place that is kept for a job."""
        self._promised_bytes[job.tenant] += held_bytes(job)

    def coming_bytes(self, tenant: str) -> int:
        """What the tenant will hold once what is stopping has left and what was promised has come."""
        return self._bytes[tenant] - self._leaving_bytes[tenant] + self._promised_bytes[tenant]

    def refusal(self, job: Job) -> str:
        """Say which limit keeps the job from starting now; empty when none does."""
        quota, policy = self._state.tenant(job.tenant).quota, self._state.policy
        if spent(self._state, job.tenant, self._now):
            end = datetime.fromtimestamp(window_end(self._now, policy.window_seconds), UTC)
            return f"your {quota.window_tokens:,} trained tokens an hour are used up; it goes on at {end:%H:%M} UTC"
        if quota.concurrent_jobs is not None and self._jobs[job.tenant] >= quota.concurrent_jobs:
            return f"{self._jobs[job.tenant]} of your {quota.concurrent_jobs} concurrent jobs run already"
        if quota.resident_bytes is not None:
            wanted, held = held_bytes(job), self._bytes[job.tenant]
            if wanted > quota.resident_bytes:
                return (
                    f"it needs {gib(wanted)} and you may have {gib(quota.resident_bytes)} in memory; "
                    "make it smaller or have the limit raised"
                )
            if held + wanted > quota.resident_bytes:
                return (
                    f"it needs {gib(wanted)} and your jobs hold {gib(held)} of the {gib(quota.resident_bytes)} you may"
                )
        return ""

    def lacking(self, job: Job) -> tuple[int, int]:
        """Jobs and bytes of its tenant that must leave, beside those that are leaving, before the job can start.

        Only where that would help: (0, 0) when they are on their way, or when no leaving makes the job fit.
        """
        quota = self._state.tenant(job.tenant).quota
        jobs = count = 0
        if quota.concurrent_jobs:
            jobs = self._jobs[job.tenant] - self._leaving_jobs[job.tenant] + 1 - quota.concurrent_jobs
        if quota.resident_bytes is not None and held_bytes(job) <= quota.resident_bytes:
            staying = self._bytes[job.tenant] - self._leaving_bytes[job.tenant]
            count = staying + held_bytes(job) - quota.resident_bytes
        return max(0, jobs), max(0, count)


def held_bytes(job: Job) -> int:
    """What counts against a tenant's bytes: the job's own in all its processes; a base that is shared is nobody's."""
    return _bytes(job.needs)


def allows(quota: Quota, needs: Needs, held: Sequence[Needs]) -> bool:
    """Whether a tenant whose jobs hold so much may hold another: for who takes it, in the transaction that does."""
    if quota.concurrent_jobs is not None and len(held) >= quota.concurrent_jobs:
        return False
    return quota.resident_bytes is None or sum(map(_bytes, [needs, *held])) <= quota.resident_bytes


def _bytes(needs: Needs) -> int:
    return needs.job_bytes * needs.processes

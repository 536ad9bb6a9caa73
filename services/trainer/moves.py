"""How a job moves when something happens to it: pure functions of the job as it is at that moment.

The runner applies them inside a transaction that reads the job anew, so whatever a person asked for meanwhile counts.
"""

from collections.abc import Iterable

from services.chassis.errors import Failure, Reason
from services.trainer.job import Job, Move, State
from services.trainer.settings import Method
from services.trainer.texts import fit
from services.trainer.work import Line

_SETTLED = {State.PAUSING: State.PAUSED, State.CANCELLING: State.CANCELLED}
# What is no fault of the job, with when to resume it: what was trained is in its last checkpoint.
_PAUSED = {
    Reason.DISK_FULL.name: "when there is space",
    Reason.CHECKPOINT_TOO_NEW.name: "once the trainer is updated",
}


def settle(job: Job) -> Move | None:
    """The move that was asked for while a process held the job, now that none does; None when nothing was."""
    wanted = _SETTLED.get(job.state)
    return Move(wanted, f"{wanted} on request") if wanted else None


def trained(job: Job) -> Move | None:
    """The move of a job whose result is there; a cancellation that came first counts."""
    if job.state is State.CANCELLING:
        return settle(job)
    return Move(State.REGISTERING, "trained; registering the version")


def stopped(job: Job, gave_way: str) -> Move | None:
    """The move of a job that wrote its checkpoint and left; None when it is to be gone on with as soon as may be.

    ``gave_way`` says for whom it did, empty when it did for nobody.
    """
    if job.state is State.RUNNING and gave_way:
        return Move(State.QUEUED, f"gave way after a checkpoint: {gave_way}")
    return settle(job)


def refuse(job: Job, reason: str, message: str) -> Move | None:
    """The move of a job that cannot go on; a cancellation that came first counts.

    For a full disk, and a checkpoint that only a later release can read, it waits for a person.  The message may quote
    what a tenant sent, also through a peer, and is made fit to be stored.
    """
    message = fit(message)
    if job.state.finished:
        return None
    if job.state is State.CANCELLING:
        return settle(job)
    if when := _PAUSED.get(reason):
        paused = Move(State.PAUSED, f"{message} The job was paused; resume it {when}.")
        return None if job.state is State.PAUSED else paused
    return Move(State.FAILED, message, {"error_reason": reason, "error_message": message})


def good_step(kept_steps: Iterable[int], sound_step: int) -> int:
    """Of the checkpoints of a job that diverged, the last one of which a sound step has shown that it is good.

    0 for none.  The loss of a step is that of the weights before it: those that the last sound step led to are finite and
    may be out of all bounds.
    """
    return max((step for step in kept_steps if step < sound_step), default=0)


def diverged(job: Job, line: Line, kept_steps: Iterable[int], kept_seconds: float) -> Move | None:
    """The move of a job that a process refused with ``line`` since it diverged: what is left, and how to go on from it.

    ``kept_steps`` are those of its checkpoints, which stay for ``kept_seconds``.
    """
    reason, message = line.reason, line.message
    step = good_step(kept_steps, line.sound_step)
    if not step:
        return refuse(job, reason, f"{message} There is no good checkpoint from before: start it again.")
    full = job.order.settings.method is Method.FULL
    begin = "as its base (--base base:MODEL@VERSION)" if full else "to start from (--from MODEL@VERSION)"
    rest = (
        f"The checkpoint of step {step} is good and kept for {kept_seconds / 3600:.3g} h: make a version of it "
        f"(trivium train publish {job.job} --step {step}), and train on with a lower rate in a new job that has this version "
        f"{begin}."
    )
    return refuse(job, reason, f"{message} {rest}")


def lost(job: Job, how: str, max_crashes: int) -> Move | None:
    """The move of a job whose process ended without a word about it; a job stays running, to be gone on with.

    Of several jobs that were lost together one may be to blame: from the second time on each is alone until it has
    written a checkpoint (`planning`), so that only the one to blame comes to the end of its tries.
    """
    if job.state in _SETTLED:
        # Also after a crash: the last checkpoint is what resuming goes on from.
        return settle(job)
    if job.state is not State.RUNNING:
        return None
    crashes = job.crashes + 1
    if crashes >= max_crashes:
        gone = Failure(Reason.PROCESS_LOST, count=crashes, status=how)
        return refuse(job, gone.reason.name, gone.sentence)
    text = f"the training process was lost ({fit(how)}); it starts again from its last checkpoint"
    return Move(State.RUNNING, text, {"crashes": crashes})

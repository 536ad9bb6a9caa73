"""Constraints from requests against the limited child: what compiles, what is refused, what must not survive."""

import pytest

from services.chassis.errors import Failure, Reason
from services.chassis.models import DEFAULT_BASE, resolve
from services.generator.constraints import ConstraintCheck
from services.generator.engine import Constraint, ConstraintKind

SOUND = [
    Constraint(ConstraintKind.JSON_SCHEMA, '{"type": "object", "properties": {"n": {"type": "integer"}}}'),
    Constraint(ConstraintKind.REGEX, "[0-9]{4}-[0-9]{2}"),
    Constraint(ConstraintKind.CHOICE, choices=("yes", 'no "quoted"', "ünïcode")),
    Constraint(ConstraintKind.GRAMMAR, 'root ::= "a" root | "b"'),
    Constraint(ConstraintKind.JSON_OBJECT),
]
HOSTILE = [
    Constraint(ConstraintKind.JSON_SCHEMA, "{not json"),
    Constraint(ConstraintKind.JSON_SCHEMA, "[" * 50_000),
    Constraint(ConstraintKind.REGEX, "(unclosed"),
    Constraint(ConstraintKind.REGEX, "a\0b"),
    Constraint(ConstraintKind.GRAMMAR, 'root ::= missing "a"'),
    Constraint(ConstraintKind.CHOICE, choices=tuple("x" * 1000 + str(number) for number in range(256))),
]


async def test_what_is_sound_compiles_and_what_is_hostile_is_refused_by_one_check_after_another():
    check = ConstraintCheck(resolve(DEFAULT_BASE).path)
    try:
        for hostile in HOSTILE:
            with pytest.raises(Failure) as caught:
                await check.require_compilable(hostile)
            assert (caught.value.reason, caught.value.field) == (Reason.FIELD_INVALID, "structured_output")
        for sound in SOUND:
            await check.require_compilable(sound)
        # Whatever ends the child has refused; the next constraint finds a new one.
        child = check._child
        assert child is not None
        await child.kill()
        await check.require_compilable(Constraint(ConstraintKind.REGEX, "[a-z]+"))
    finally:
        await check.close()

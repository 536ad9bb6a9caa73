"""A process that reads what nobody vouches for gives up, for good, what reading does not need.

By a filter in the kernel: no network, no other programs or processes, no writing, renaming or deleting of files; so
when it is ended, all that it did has ended.  Where the filter
cannot be had (another machine type, a kernel without it) the resource limits of the child remain.
"""

import ctypes
import errno
import os
import platform
import struct

_PR_SET_NO_NEW_PRIVS = 38
_PR_SET_SECCOMP = 22
_SECCOMP_MODE_FILTER = 2
_ALLOW = 0x7FFF0000
_REFUSE = 0x00050000 | errno.EPERM
_KILL = 0x80000000
# The C library then starts a thread by the older call, whose flags a filter can read.
_UNKNOWN = 0x00050000 | errno.ENOSYS
_CLONE3 = 435
_CLONE_THREAD = 0x00010000
# Operations of the kernel's packet filter: load a word, jump if equal, if any bit is set, if at least; return.
_LOAD, _EQUAL, _ANY_BIT, _AT_LEAST, _RETURN = 0x20, 0x15, 0x45, 0x35, 0x06
_NUMBER_AT, _ARCHITECTURE_AT, _ARGUMENTS_AT = 0, 4, 16
_X32_CALLS = 0x40000000
# What opening a file to change it says: write, read and write, create, truncate, a nameless file, append.
_WRITES = (
    os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND | (getattr(os, "O_TMPFILE", 0) & ~os.O_DIRECTORY)
)


class _Machine:
    """System call numbers of a kind of machine, from the kernel's own tables."""

    def __init__(self, audit: int, refused: tuple[int, ...], opening: dict[int, int], clone: int) -> None:
        self.audit = audit
        self.refused = refused
        # The call that starts a thread or, without its flag, a process.
        self.clone = clone
        # By the call that opens a file: which of its arguments holds the flags.
        self.opening = opening


_MACHINES = {
    # socket, connect, sendto, sendmsg, bind, listen, socketpair, execve, rename, mkdir, rmdir, creat, link, unlink,
    # symlink, chmod, chown, truncate, ptrace, mknod, mount, unlinkat, renameat, linkat, symlinkat, mknodat, mkdirat,
    # fchmodat, fchownat, renameat2, execveat, process_vm_writev, io_uring_setup, pidfd_getfd, openat2, bpf, userfaultfd,
    # unshare, setns, keyctl, kexec_load, fork, vfork
    "x86_64": _Machine(
        0xC000003E,
        (41, 42, 44, 46, 49, 50, 53, 59, 82, 83, 84, 85, 86, 87, 88, 90, 92, 76, 101, 133, 165, 263, 264, 265, 266, 259,
         258, 268, 260, 316, 322, 311, 425, 438, 437, 321, 323, 272, 308, 250, 246, 57, 58),
        {2: 1, 257: 2},
        56,
    ),
    "aarch64": _Machine(
        0xC00000B7,
        (198, 203, 206, 211, 200, 201, 199, 221, 117, 33, 40, 35, 38, 37, 36, 34, 53, 54, 45, 276, 281, 271, 425, 438,
         437, 280, 282, 97, 268, 219, 104),
        {56: 2},
        220,
    ),
}  # fmt: skip


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def confine() -> bool:
    """Put the filter in force for this process and its threads; whether it is."""
    machine = _MACHINES.get(platform.machine())
    if machine is None:
        return False
    code = b"".join(_instructions(machine))
    buffer = ctypes.create_string_buffer(code, len(code))
    program = _Program(len(code) // 8, ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        return False
    return bool(libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0) == 0)


def _instructions(machine: _Machine) -> list[bytes]:
    """The filter: another machine's calls kill, what is listed is refused, everything else is allowed."""
    code = [
        _step(_LOAD, _ARCHITECTURE_AT),
        _step(_EQUAL, machine.audit, 1, 0),
        _step(_RETURN, _KILL),
        _step(_LOAD, _NUMBER_AT),
        # The same calls by other numbers.
        _step(_AT_LEAST, _X32_CALLS, 0, 1),
        _step(_RETURN, _REFUSE),
    ]
    for number in machine.refused:
        code += [_step(_EQUAL, number, 0, 1), _step(_RETURN, _REFUSE)]
    for number, argument in machine.opening.items():
        code += [
            _step(_EQUAL, number, 0, 4),
            _step(_LOAD, _ARGUMENTS_AT + 8 * argument),
            _step(_ANY_BIT, _WRITES, 0, 1),
            _step(_RETURN, _REFUSE),
            _step(_RETURN, _ALLOW),
        ]
    code += [
        _step(_EQUAL, _CLONE3, 0, 1),
        _step(_RETURN, _UNKNOWN),
        _step(_EQUAL, machine.clone, 0, 3),
        _step(_LOAD, _ARGUMENTS_AT),
        _step(_ANY_BIT, _CLONE_THREAD, 1, 0),
        _step(_RETURN, _REFUSE),
    ]
    return [*code, _step(_RETURN, _ALLOW)]


def _step(operation: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", operation, if_true, if_false, value)

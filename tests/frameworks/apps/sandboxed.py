"""`sandboxed.py MODULE ARGUMENT...`: runs a module as in a container.

System calls that the default seccomp profiles of container engines refuse, or did when
they were new, fail with EPERM; clone3 with ENOSYS, as in these profiles, for the libc's
sake.
"""

import ctypes
import errno
import os
import runpy
import struct
import sys

# these have one number on all architectures
IO_URING_SETUP, IO_URING_ENTER, IO_URING_REGISTER = 425, 426, 427
PIDFD_OPEN, CLONE3, EPOLL_PWAIT2 = 434, 435, 441
REFUSED = {
    IO_URING_SETUP: errno.EPERM,
    IO_URING_ENTER: errno.EPERM,
    IO_URING_REGISTER: errno.EPERM,
    PIDFD_OPEN: errno.EPERM,
    CLONE3: errno.ENOSYS,
    EPOLL_PWAIT2: errno.EPERM,
}
PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, SECCOMP_MODE_FILTER = 22, 38, 2
LOAD, JUMP_EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, FAIL = 0x7FFF0000, 0x00050000


def refuse():
    rules = [struct.pack("HBBI", LOAD, 0, 0, 0)]  # the number of the call
    for number, error in REFUSED.items():
        rules.append(struct.pack("HBBI", JUMP_EQUAL, 0, 1, number))
        rules.append(struct.pack("HBBI", RETURN, 0, 0, FAIL | error))
    rules.append(struct.pack("HBBI", RETURN, 0, 0, ALLOW))
    code = ctypes.create_string_buffer(b"".join(rules))
    program = struct.pack("HP", len(rules), ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    for words in (
        (PR_SET_NO_NEW_PRIVS, 1, 0),
        (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, program),
    ):
        if libc.prctl(*words, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl")


def check():
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.syscall(PIDFD_OPEN, os.getpid(), 0) == -1
    assert ctypes.get_errno() == errno.EPERM


refuse()
check()
del sys.argv[0]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
